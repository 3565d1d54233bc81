"""What the examples learn from, and how they find the platform."""

from __future__ import annotations

import argparse
import json
import re
from itertools import islice
from pathlib import Path

import pytest
from luthier_dataset.tokens import TEMPLATE, TOKENIZER, TokenCounter

from examples import jobs
from examples.alpaca import __main__ as alpaca
from examples.alpaca import instructions
from examples.summarisation import __main__ as summarisation
from examples.summarisation.dialogues import conversations

ROOT = Path(__file__).parents[3]


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    jobs.add_options(parser)
    return parser.parse_args(given)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "LUTHIER_GRPC"):
        monkeypatch.delenv(name, raising=False)


def test_conversations_follow_from_their_seed() -> None:
    made = list(islice(conversations(1), 400))
    assert made == list(islice(conversations(1), 400))
    assert len({one.dialogue for one in made}) == 400, "none is both learned and judged"
    for one in made:
        names = {line.partition(":")[0] for line in one.dialogue.splitlines()}
        assert len(names) == 2
        assert all(name in one.summary for name in names)
        assert one.summary != one.report


def test_a_conversation_is_asked_about_as_in_the_walk_through() -> None:
    rows = summarisation.pairs(options("--rows", "3"))
    assert len(rows) == 3
    asked = r"Summarize the following conversation\.\n\n.+\n\nSummary: "
    assert re.fullmatch(asked, rows[0]["prompt"], re.DOTALL)


def test_an_instruction_without_input_has_a_prompt_without_that_part() -> None:
    record = {"instruction": "Name a bird.", "input": "", "output": "A wren."}
    bare = "### Instruction:\nName a bird.\n\n### Response:\n"
    assert instructions.prompt_of(record) == bare
    assert instructions.prompt_of({"instruction": "Name a bird."}) == bare
    assert instructions.prompt_of(record | {"input": "Not a big one."}) == (
        "### Instruction:\nName a bird.\n\n### Input:\nNot a big one.\n\n### Response:\n"
    )
    made = list(islice(instructions.records(2), 200))
    assert made == list(islice(instructions.records(2), 200))
    assert 0.6 < sum(bool(one["input"]) for one in made) / len(made) < 0.9
    assert all(one["output"] in one["input"] for one in made if one["input"])


def test_files_of_ones_own_become_rows(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"dialogue": "A: Hi {x}.", "summary": "A greets."}\n\n', encoding="utf-8")
    (row,) = summarisation.pairs(options("--data", str(file)))
    assert "\n\nA: Hi {x}.\n\n" in row["prompt"]
    assert row["completion"] == "A greets."
    file.write_text('{"instruction": "Go {on}.", "input": "{a}", "output": "Yes."}\n')
    (row,) = alpaca.pairs(options("--data", str(file)))
    assert row["prompt"] == "### Instruction:\nGo {on}.\n\n### Input:\n{a}\n\n### Response:\n"


def test_the_platform_is_that_of_the_folder_or_of_the_options(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="luthier up"):
        jobs.connection(options())
    (tmp_path / ".luthier").mkdir()
    found = {"rest": "http://up/v1", "grpc": "up:1", "api_key": "theirs", "models": []}
    (tmp_path / ".luthier" / "connection.json").write_text(json.dumps(found))
    assert jobs.connection(options("--api-key", "another")).api_key == "theirs"
    with pytest.raises(SystemExit, match="--grpc and --api-key"):
        jobs.connection(options("--base-url", "http://other/v1", "--api-key", "k"))
    other = ("--base-url", "http://other/v1", "--api-key", "k", "--grpc", "other:1")
    assert jobs.connection(options(*other)) == jobs.Connection("http://other/v1", "other:1", "k")


def test_the_chat_template_of_the_readme_asks_as_the_rows_do() -> None:
    readme = (ROOT / "examples" / "alpaca" / "README.md").read_text(encoding="utf-8")
    template = readme.partition("```jinja\n")[2].partition("```")[0].rstrip("\n")
    starter = ROOT / "models" / "starter" / "tokenizer.json"
    counter = TokenCounter({TOKENIZER: starter.read_bytes(), TEMPLATE: template.encode()})
    asked = [{"role": "user", "content": "Name a bird."}]
    prompt = instructions.prompt_of({"instruction": "Name a bird."})
    assert counter.render(asked, answer=True) == prompt
    answered = [*asked, {"role": "assistant", "content": "A wren."}]
    assert counter.render(answered) == f"{prompt}A wren."
