"""`luthier commands` without a server."""

from pathlib import Path

import pytest
from luthier_standalone.cli import app
from typer.testing import CliRunner


@pytest.mark.parametrize("command", ["list", "replay"])
def test_without_a_platform_or_a_server_a_command_says_how_to_start_one(
    command: str, tmp_path: Path
) -> None:
    line = ["commands", command, "--data-dir", str(tmp_path / "none")]
    result = CliRunner().invoke(app, line, env={"LUTHIER_NATS_URL": ""})
    assert result.exit_code == 1
    assert "error: no platform is up in" in result.output
    assert not (tmp_path / "none").exists()
