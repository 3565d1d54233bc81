"""One machine's platform from the outside: up, used, killed in parts, stopped, started again."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.support.luthier_up import LuthierUp, luthier_up, run_luthier, until

pytestmark = pytest.mark.timeout(600)
README = Path(__file__).parents[2] / "README.md"
ROWS = b"".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"What is the code of item {n}?"},
                {"role": "assistant", "content": f"{n * 37 % 97}"},
            ]
        }
    ).encode()
    + b"\n"
    for n in range(24)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("luthier") / "data"


@pytest.fixture(scope="module")
def platform(data: Path) -> Iterator[LuthierUp]:
    with luthier_up(data) as running:
        yield running


def start_job(platform: LuthierUp, epochs: int) -> FineTuningJob:
    """Start a job on a few rows."""
    file = platform.client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    return platform.client.fine_tuning.jobs.create(
        model=platform.model,
        training_file=file.id,
        suffix="codes",
        seed=1,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 8}},
        },
    )


def finished(platform: LuthierUp, job_id: str, seconds: float = 180) -> FineTuningJob:
    """Wait for a job's end."""

    def ended() -> FineTuningJob | None:
        job = platform.client.fine_tuning.jobs.retrieve(job_id)
        return job if job.finished_at else None

    return until(ended, seconds)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def tuned(platform: LuthierUp) -> FineTuningJob:
    job = finished(platform, start_job(platform, epochs=2).id)
    assert job.status == "succeeded", job.error
    return job


def test_connection_json_is_for_its_owner_and_says_how_to_connect(platform: LuthierUp) -> None:
    path = platform.data / "connection.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(platform.connection) == {"rest", "grpc", "nats", "api_key", "models"}
    printed = platform.data.with_suffix(".out").read_text()
    for value in ("rest", "grpc", "api_key"):
        assert platform.connection[value] in printed
    for line in ("curl ", "from openai import OpenAI", "luthier chat"):
        assert line in printed


def test_a_second_platform_on_the_same_directory_is_refused(platform: LuthierUp) -> None:
    second = run_luthier("up", "--data-dir", str(platform.data))
    assert second.returncode == 1
    assert f"pid {platform.process.pid}" in second.stderr
    assert "--data-dir" in second.stderr


def test_the_snippet_of_the_readme_works_as_pasted(platform: LuthierUp, tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"<!-- snippet: openai -->\s*```python\n(.*?)```", text, re.DOTALL)
    assert found, "the README has the snippet"
    # Few: `auto` makes small batches of them, and many passes.
    (tmp_path / "rows.jsonl").write_bytes(b"".join(ROWS.splitlines(keepends=True)[:8]))
    shutil.copy(platform.data / "connection.json", tmp_path / "connection.json")
    code = found.group(1).replace(".luthier/connection.json", "connection.json")
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "succeeded" in ran.stdout
    assert "ft:" in ran.stdout


def test_the_lines_to_paste_work(platform: LuthierUp) -> None:
    said = run_luthier("chat", "--data-dir", str(platform.data), "--model", platform.model, "Hi?")
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()
    lines = platform.data.with_suffix(".out").read_text().splitlines()
    curl = next(line for line in lines if line.startswith("curl "))
    answered = subprocess.run(
        curl, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert json.loads(answered.stdout)["object"] == "chat.completion"


def test_a_job_says_in_log_and_events_what_it_holds_in_nf4(
    platform: LuthierUp, tuned: FineTuningJob
) -> None:
    said = "28 linear layers in NF4 with double quantization; 116,736 of 1,967,808 weights are"
    events = platform.client.fine_tuning.jobs.list_events(tuned.id, limit=100)
    assert any(said in event.message for event in events)
    assert said in (platform.data / "logs" / "trainer.log").read_text()


def test_a_tuned_model_is_served_at_once_and_streams(
    platform: LuthierUp, tuned: FineTuningJob
) -> None:
    assert tuned.fine_tuned_model is not None
    assert tuned.fine_tuned_model in {model.id for model in platform.client.models.list()}
    pieces = platform.client.chat.completions.create(
        model=tuned.fine_tuned_model,
        messages=[{"role": "user", "content": "What is the code of item 3?"}],
        stream=True,
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


KILLED = ("luthier_gateway", "luthier_dataset", "luthier_trainer", "luthier_inference")


def dataset(platform: LuthierUp, dataset_id: str) -> dict[str, Any]:
    """Wait until a dataset is built."""

    def built() -> Any:
        found: Any = platform.client.get(f"/datasets/{dataset_id}", cast_to=object)
        return found if found["status"] != "building" else None

    found: dict[str, Any] = until(built, 120)
    return found


def test_an_uploaded_file_becomes_an_implicit_dataset(
    platform: LuthierUp, tuned: FineTuningJob
) -> None:

    def implicit() -> Any:
        job = platform.client.fine_tuning.jobs.retrieve(tuned.id)
        return (job.model_extra or {})["training_dataset"]

    named = until(implicit)
    found = dataset(platform, named)
    assert (found["status"], found["source_files"]) == ("ready", [tuned.training_file])
    assert found["statistics"]["rows"] == 24
    original = platform.client.files.content(tuned.training_file).read()
    assert platform.client.files.content(found["file"]).read() == original


def test_served_models_summarize_code_and_write_questions(
    platform: LuthierUp, tuned: FineTuningJob
) -> None:
    code = b"def leave(years):\n    return 24 + years\n\ndef travel(days):\n    return 40 * days\n"
    text = b"# Leave\n\nEveryone at Acme gets 24 days of leave. Requests go to Mira Okafor.\n"
    files = [
        platform.client.files.create(file=(name, data), purpose="user_data").id
        for name, data in (("house.py", code), ("leave.md", text))
    ]
    summary = {"type": "code_summary", "model": tuned.fine_tuned_model}
    recipes = [{"type": "headings"}, summary, {"type": "questions"}]
    body = {"model": platform.model, "source_files": files, "recipes": recipes}
    made: Any = platform.client.post("/datasets", body=body, cast_to=object)
    found = dataset(platform, made["id"])
    assert found["status"] == "ready", found["error"]
    figures = found["statistics"]
    # Nothing is said of the prose; but two functions were put to the model, and two statements
    # six times, and each came out as a row or was counted.
    dropped = sum(figures["dropped_by_reason"].values())
    assert figures["rows"] + dropped - figures["rows_by_recipe"]["headings"] == 2 + 2 * 6
    assert figures["rows_by_recipe"]["questions"] > 0
    assert figures["model_calls"] >= 2 + 2 * 6
    assert found["artifacts"]["generations_sha256"]
    assert found["recipes"][1] == summary


@pytest.mark.parametrize("service", [*KILLED, "luthier_inference.engine", "nats-server"])
def test_a_killed_process_comes_back_and_work_goes_on(
    platform: LuthierUp, tuned: FineTuningJob, service: str
) -> None:
    client, model = platform.client, tuned.fine_tuned_model or ""
    before = platform.ask(model, "What is the code of item 5?")
    platform.kill(service)
    assert until(lambda: platform.ask(model, "What is the code of item 5?")) == before
    content = f"kept after {service}".encode()
    file = until(lambda: client.files.create(file=("a.md", content), purpose="user_data"))
    assert until(lambda: client.files.content(file.id)).read() == content
    assert client.fine_tuning.jobs.retrieve(tuned.id).status == "succeeded"


@pytest.mark.parametrize("killed", ["luthier_trainer.run", "luthier_trainer", "nats-server"])
def test_a_job_survives_the_death_of_what_works_on_it(platform: LuthierUp, killed: str) -> None:
    job = start_job(platform, epochs=25)

    def at_work() -> bool:
        events = platform.client.fine_tuning.jobs.list_events(job.id)
        return any(event.type == "metrics" for event in events)

    until(at_work)
    platform.kill(killed)
    ended = finished(platform, job.id)
    assert ended.status == "succeeded", ended.error
    messages = [e.message for e in platform.client.fine_tuning.jobs.list_events(job.id)]
    if killed == "luthier_trainer.run":
        assert any(said.startswith("The run ended (signal 9); it will ") for said in messages)


def test_stopping_and_starting_loses_nothing(tmp_path: Path) -> None:
    """Also not when the records are gone and made again from their journals."""
    data = tmp_path / "data"
    with luthier_up(data) as platform:
        job = finished(platform, start_job(platform, epochs=1).id)
        before = _everything(platform, job)
        assert platform.stop() == 0
        assert not (data / "connection.json").exists()
    with luthier_up(data) as platform:
        assert _everything(platform, job) == before
        assert platform.stop() == 0
    shutil.rmtree(data / "nats")
    refused = run_luthier("up", "--data-dir", str(data), "--rest-port", "0", "--grpc-port", "0")
    assert refused.returncode == 1
    assert "luthier records rebuild" in refused.stderr
    rebuilt = run_luthier("records", "rebuild", "--data-dir", str(data))
    assert rebuilt.returncode == 0, rebuilt.stderr
    with luthier_up(data) as platform:
        assert _everything(platform, job) == before


def _everything(platform: LuthierUp, job: FineTuningJob) -> dict[str, object]:
    client = platform.client
    now = client.fine_tuning.jobs.retrieve(job.id)
    assert now.status == "succeeded"
    assert now.fine_tuned_model
    return {
        "job": now.to_dict(),
        "events": [e.to_dict() for e in client.fine_tuning.jobs.list_events(job.id, limit=100)],
        "files": [file.to_dict() for file in client.files.list()],
        "bytes": [client.files.content(file.id).read() for file in client.files.list()],
        "models": sorted(model.id for model in client.models.list()),
        "answer": platform.ask(now.fine_tuned_model, "What is the code of item 5?"),
    }
