"""The starter without its chat template: ``python -m examples.alpaca.bare_starter FOLDER``.

A causal model as base models come, Falcon-7B for one: it goes on from texts and knows no roles.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

_STARTER = Path(__file__).parents[2] / "models" / "starter"
_COPIED = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
_CONFIG = "tokenizer_config.json"


def save(folder: Path) -> None:
    """Copy the starter without chat template, and without its general rows, which are chats."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        shutil.copyfile(_STARTER / name, folder / name)
    config = json.loads((_STARTER / _CONFIG).read_text(encoding="utf-8"))
    del config["chat_template"]
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.alpaca.bare_starter")
    parser.add_argument("folder", type=Path)
    save(parser.parse_args().folder)
