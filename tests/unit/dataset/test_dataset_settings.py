from pathlib import Path

import pytest
from luthier_common.settings import SettingsError, load
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.settings import DatasetSettings

REQUIRED = {
    "LUTHIER_OBJECTS_URL": "file:///objects",
    "LUTHIER_IDENTITY_SECRET": "s" * 32,
    "LUTHIER_INFERENCE_ADDRESS": "inference:7000",
    "LUTHIER_WORK_DIR": "work",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_defaults_suit_the_starter(environment: pytest.MonkeyPatch) -> None:
    settings = load(DatasetSettings)
    assert settings.work_dir == Path("work")
    assert settings.max_file_bytes == 8 * 1024**3
    assert settings.question_prompts == QuestionPrompts()


def test_another_model_gets_its_own_prompts(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(
        "LUTHIER_QUESTION_PROMPTS", '{"write": "Ask about: {statement}", "styles": 1}'
    )
    prompts = load(DatasetSettings).question_prompts
    assert prompts.write_prompt(1, "A fact.") == "Ask about: A fact."
    assert prompts.read == QuestionPrompts().read


def test_every_problem_is_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LUTHIER_MAX_FILE_BYTES", "0")
    environment.setenv("LUTHIER_INFERENCE_ADDRESS", "nowhere")
    environment.setenv("LUTHIER_QUESTION_PROMPTS", '{"read": "?"}')
    with pytest.raises(SettingsError) as caught:
        load(DatasetSettings)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "LUTHIER_INFERENCE_ADDRESS",
        "LUTHIER_MAX_FILE_BYTES",
        "LUTHIER_QUESTION_PROMPTS",
    ]
