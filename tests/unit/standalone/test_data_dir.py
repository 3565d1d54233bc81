"""The data directory belongs to one platform, and its secrets to one person."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from luthier_common.errors import FailedPrecondition
from luthier_standalone.data_dir import Connection, DataDir

CONNECTION = Connection("http://127.0.0.1:1/v1", "127.0.0.1:2", "nats://x", "key", ("a", "b"))

HOLDER = """
import sys
from pathlib import Path
from luthier_standalone.data_dir import Connection, DataDir
data = DataDir(Path(sys.argv[1]))
with data.locked():
    data.publish(Connection("r", "g", "n", "k", ()))
    print("locked", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    assert not DataDir(tmp_path / "new").is_running()
    assert list(tmp_path.iterdir()) == []


def test_a_second_holder_is_told_who_holds_it_and_changes_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(FailedPrecondition, match=rf"pid {holder.pid}\).*--data-dir"):
            DataDir(tmp_path).locked().__enter__()
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        assert DataDir(tmp_path).is_running()
        holder.stdin.close()
    assert not DataDir(tmp_path).is_running()


def test_what_a_killed_holder_left_is_not_taken_for_a_running_platform(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    assert (tmp_path / "connection.json").exists()
    with pytest.raises(FailedPrecondition, match="luthier up"):
        DataDir(tmp_path).connection()
    with DataDir(tmp_path).locked():
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with data.locked():
        first = data.secrets()
        assert data.secrets() == first
    assert DataDir(tmp_path).secrets() == first
    assert len(first.identity) >= 32
    assert first.api_key.startswith("sk-luthier-")
    assert mode(tmp_path / "secrets.json") == 0o600


def test_two_directories_have_different_secrets(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        data = DataDir(tmp_path / name)
        with data.locked():
            made.append(data.secrets())
    assert made[0].api_key != made[1].api_key
    assert made[0].identity != made[1].identity


def test_a_connection_is_private_and_lives_as_long_as_the_platform(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with data.locked():
        data.publish(CONNECTION)
        assert mode(tmp_path / "connection.json") == 0o600
        assert DataDir(tmp_path).connection() == CONNECTION
        data.withdraw()
        with pytest.raises(FailedPrecondition):
            data.connection()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]
