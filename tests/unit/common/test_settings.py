import subprocess
import sys

import pytest
from luthier_common.settings import Address, ServiceSettings, SettingsError, load, split_address
from pydantic import Field, SecretStr

GOOD = {"LUTHIER_OBJECTS_URL": "file:///data", "LUTHIER_IDENTITY_SECRET": "s" * 32}


class Settings(ServiceSettings):
    peer_address: Address
    limits: list[int] = Field(default_factory=list)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LUTHIER_PEER_ADDRESS", "dataset:9000")


def test_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_DRAIN_SECONDS", "3.5")
    settings = load(Settings)
    assert settings.peer_address == "dataset:9000"
    assert settings.drain_seconds == 3.5
    assert settings.identity_secret == SecretStr("s" * 32)
    assert "sss" not in repr(settings)


def test_lists_every_problem_at_once_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUTHIER_OBJECTS_URL")
    monkeypatch.setenv("LUTHIER_IDENTITY_SECRET", "tooshort")
    monkeypatch.setenv("LUTHIER_GRPC_ADDRESS", "nowhere")
    monkeypatch.setenv("LUTHIER_DRAIN_SECONDS", "-1")
    monkeypatch.setenv("LUTHIER_LOG_LEVEL", "chatty")
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    named = {problem.partition(":")[0] for problem in caught.value.problems}
    assert named == {
        "LUTHIER_OBJECTS_URL",
        "LUTHIER_IDENTITY_SECRET",
        "LUTHIER_GRPC_ADDRESS",
        "LUTHIER_DRAIN_SECONDS",
        "LUTHIER_LOG_LEVEL",
    }
    assert "LUTHIER_OBJECTS_URL: is required" in caught.value.problems
    assert "LUTHIER_GRPC_ADDRESS: must be host:port" in caught.value.problems
    assert "tooshort" not in str(caught.value)


def test_a_list_that_is_no_json_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_LIMITS", "1,2")
    with pytest.raises(SettingsError, match="limits"):
        load(Settings)


@pytest.mark.parametrize("address", ["", "host", ":80", "host:", "host:x", "host:70000", "h:-1"])
def test_refuses_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)


def test_splits_addresses() -> None:
    assert split_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert split_address("[::1]:8081") == ("::1", 8081)


def test_a_service_prints_its_bad_settings_and_exits_2() -> None:
    script = (
        "import sys\n"
        "from luthier_common.lifespan import run_service\n"
        "from luthier_common.settings import ServiceSettings\n"
        "sys.exit(run_service('demo', ServiceSettings, None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "LUTHIER_OBJECTS_URL: is required" in done.stderr
    assert "LUTHIER_IDENTITY_SECRET: is required" in done.stderr
    assert "Traceback" not in done.stderr
