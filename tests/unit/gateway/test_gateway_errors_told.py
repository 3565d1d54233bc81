import json
from typing import Any

import pytest
from luthier_common import errors
from luthier_common.errors import PlatformError, not_found
from luthier_common.rpc.status import to_status
from luthier_gateway.openai.errors import answer, body_of, job_error


def told(error: PlatformError) -> tuple[int, dict[str, Any]]:
    response = answer(error)
    body = json.loads(bytes(response.body))
    assert body == body_of(error)
    return response.status_code, body["error"]


def subclasses(kind: type[PlatformError]) -> list[type[PlatformError]]:
    return [kind, *(one for child in kind.__subclasses__() for one in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(PlatformError)[1:])
def test_every_kind_of_failure_has_a_status(kind: type[PlatformError]) -> None:
    status, error = told(kind("Something", reason="SOME_REASON"))
    assert 400 <= status < 600
    assert error["code"] == "some_reason"
    assert (error["type"] == "server_error") == (status >= 500)


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("training_job.base_model", "model"),
        ("training_job.training_file", "training_file"),
        ("training_job.metadata", "metadata"),
        (
            "training_job.supervised.hyperparameters.epoch_count",
            "method.supervised.hyperparameters.n_epochs",
        ),
        ("training_job.tuning_spec.supervised", "method.supervised"),
        ("dataset.base_model", "model"),
        ("dataset.display_name", "name"),
        ("dataset.recipes[2]", "recipes.2"),
        ("sampling.top_p", "top_p"),
        ("sampling.answer_count", "n"),
        ("sampling.logit_bias[7]", "logit_bias.7"),
        ("sampling.format.json_schema", "response_format.json_schema.schema"),
        ("messages[3].content", "messages.3.content"),
        ("messages[3].tool_calls[0].arguments", "messages.3.tool_calls.0.function.arguments"),
        ("tools[1].name", "tools.1.function.name"),
        ("tools[1].parameters_schema", "tools.1.function.parameters"),
        ("tool_choice.name", "tool_choice.function.name"),
        ("text", "prompt"),
        ("texts[4]", "input.4"),
        ("file.display_name", "file"),
        ("file.purpose", "purpose"),
        ("page_size", "limit"),
        ("order_by", "order"),
        ("after", "after"),
    ],
)
def test_fields_of_owners_are_called_as_openai_calls_them(field: str, param: str) -> None:
    status, error = told(errors.InvalidArgument(f"{field} is wrong", reason="WRONG", field=field))
    assert (status, error["param"]) == (400, param)
    assert error["message"] == f"{param} is wrong"


def test_a_field_called_by_its_last_name_is_renamed_too() -> None:
    field = "training_job.supervised.hyperparameters.epoch_count"
    error = errors.InvalidArgument("epoch_count must be 1", reason="OUT_OF_RANGE", field=field)
    assert told(error)[1]["message"] == "n_epochs must be 1"


def test_a_field_is_renamed_as_a_word_only() -> None:
    error = errors.InvalidArgument(
        "page_size, not my_page_size or page_size[0]", reason="WRONG", field="page_size"
    )
    assert told(error)[1]["message"] == "limit, not my_page_size or page_size[0]"


@pytest.mark.parametrize("field", [r"messages[\1]", r"\g<0>", "a(b", "[", "messages[0]["])
def test_a_field_with_signs_of_a_pattern_is_told_as_it_is(field: str) -> None:
    status, error = told(errors.InvalidArgument(f"{field} is wrong", reason="WRONG", field=field))
    assert status == 400
    assert error["message"].endswith(" is wrong")


@pytest.mark.parametrize("field", ["name", "parent"])
def test_names_of_resources_are_no_parameters(field: str) -> None:
    error = errors.InvalidArgument(f"{field} is wrong", reason="WRONG", field=field)
    assert told(error)[1]["param"] is None


def test_what_a_parameter_refers_to_is_a_bad_request_and_no_404() -> None:
    absent = not_found("projects/acme/files/file-1")
    absent.field = "training_job.training_file"
    status, error = told(absent)
    assert (status, error["param"]) == (400, "training_file")
    assert error["message"] == "No such file: file-1"


def test_a_model_that_is_asked_for_is_a_404_with_its_parameter() -> None:
    absent = errors.NotFound(
        "The model 'x' does not exist", reason="MODEL_NOT_FOUND", field="model"
    )
    assert told(absent)[0] == 404


def test_too_large_a_file_is_413() -> None:
    error = errors.InvalidArgument("too large", reason="FILE_TOO_LARGE", field="file")
    assert told(error)[0] == 413


def test_the_time_to_try_again_is_in_whole_seconds_and_at_least_one() -> None:
    def seconds(given: str) -> str:
        error = errors.ResourceExhausted(
            "busy", reason="BUSY", metadata={"retry_after_seconds": given}
        )
        return answer(error).headers["retry-after"]

    assert [seconds(given) for given in ("0.1", "1", "1.5", "60")] == ["1", "1", "2", "60"]
    assert "retry-after" not in answer(errors.ResourceExhausted("busy", reason="BUSY")).headers


def test_a_limit_with_a_time_to_try_again_has_openais_code() -> None:
    def code(kind: type[PlatformError]) -> str:
        error = kind("busy", reason="BUSY", metadata={"retry_after_seconds": "1"})
        return str(told(error)[1]["code"])

    assert code(errors.ResourceExhausted) == "rate_limit_exceeded"
    assert code(errors.Unavailable) == "busy"


def test_a_failure_kept_in_a_record_is_told_in_openais_words() -> None:
    error = errors.InvalidArgument(
        "projects/acme/files/file-1: line 3 is bad",
        reason="INVALID_ROW",
        field="training_job.training_file",
    )
    assert job_error(to_status(error)) == {
        "code": "invalid_row",
        "message": "file-1: line 3 is bad",
        "param": "training_file",
    }
