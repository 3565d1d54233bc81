"""On the terminal an error is one sentence, and no traceback."""

from importlib.metadata import version
from pathlib import Path

import pytest
from luthier_standalone.cli import app
from luthier_standalone.data_dir import DataDir
from luthier_standalone.library import STARTER_ID, Snapshot, parse_model, starter
from typer.testing import CliRunner, Result


def luthier(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_version() -> None:
    result = luthier("version")
    assert result.exit_code == 0
    assert f"luthier {version('luthier')}" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ("chat", "Hello!"),
        ("models", "list"),
        ("models", "import", ".", "--id", "x"),
        ("keys", "create", "--project", "acme", "--role", "user"),
    ],
)
def test_without_a_platform_a_command_says_how_to_start_one(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    result = luthier(*command, "--data-dir", tmp_path / "none")
    assert result.exit_code == 1
    assert "error: no platform is up in" in result.output
    assert "luthier up" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "none").exists()


def test_rebuilding_needs_a_journal(tmp_path: Path) -> None:
    result = luthier("records", "rebuild", "--data-dir", tmp_path / "none")
    assert result.exit_code == 1
    assert "holds no journal" in result.output
    assert not (tmp_path / "none").exists()


def test_rebuilding_is_refused_while_a_platform_holds_the_directory(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    (tmp_path / "objects").mkdir()
    with data.locked():
        result = luthier("records", "rebuild", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "already uses" in result.output


def test_up_refuses_a_model_that_does_not_exist_before_anything_starts(tmp_path: Path) -> None:
    result = luthier("up", "--data-dir", tmp_path / "new", "--model", "Bad Name=?")
    assert result.exit_code == 1
    assert "error: --model must be" in result.output
    assert not (tmp_path / "new").exists()


def test_an_unknown_role_names_the_known_ones() -> None:
    result = luthier("keys", "create", "--project", "acme", "--role", "king")
    assert result.exit_code == 2
    assert "viewer" in result.output


def test_a_model_is_a_path_and_perhaps_an_id() -> None:
    assert parse_model("/models/My_Model.v2") == Snapshot(
        Path("/models/My_Model.v2"), "my-model-v2"
    )
    assert parse_model("/a=b/model=llama-8b") == Snapshot(Path("/a=b/model"), "llama-8b")


def test_the_starter_model_is_there() -> None:
    assert starter().model_id == STARTER_ID
    assert (starter().path / "config.json").is_file()
