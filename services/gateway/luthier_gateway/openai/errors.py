"""Every failure as OpenAI tells it: a status and `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from google.rpc import status_pb2
from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier_common import errors
from luthier_common.errors import PlatformError
from luthier_common.rpc.status import RETRY_AFTER, from_status
from starlette.exceptions import HTTPException

from luthier_gateway.openai import names

_STATUSES: dict[type[PlatformError], int] = {
    errors.InvalidArgument: 400,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.FailedPrecondition: 409,
    errors.Aborted: 409,
    errors.ResourceExhausted: 429,
    errors.Internal: 500,
    errors.DataLoss: 500,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
}
_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}

# The SDK repeats 409, 429 and 5xx by itself; where repeating cannot help, it is told so.
_FINAL = (errors.AlreadyExists, errors.FailedPrecondition, errors.DataLoss)

# What the owners call a field, and what OpenAI calls it.
_FIELDS = {
    "file": "file",
    "file.display_name": "file",
    "file.purpose": "purpose",
    "chunk": "data",
    "upload.display_name": "filename",
    "upload.size_bytes": "bytes",
    "dataset.display_name": "name",
    "page_size": "limit",
    "page_token": "after",
    "order_by": "order",
    "text": "prompt",
    "sampling.answer_count": "n",
    "sampling.format": "response_format",
    "sampling.format.json_object": "response_format",
    "sampling.format.json_schema": "response_format.json_schema.schema",
    "tool_choice.name": "tool_choice.function.name",
}
_RESOURCE_FIELDS = frozenset({"name", "parent"})  # made from key and path, not from a parameter
_OWN_FIELD = re.compile(r"^(?:training_job|dataset|upload|sampling)\.")
# The owners have the kind of a recipe in the path, the body has it as `type`.
_RECIPE = re.compile(
    rf"^(recipes\.\d+)\.(?:{'|'.join(field.name for field in Recipe.DESCRIPTOR.fields)})(?=\.|$)"
)
# The owners have a tool and a call without OpenAI's `function` around them.
_FUNCTION = re.compile(
    r"^((?:messages\.\d+\.)?tool(?:s|_calls)\.\d+)\.(name|description|parameters|arguments)(?:_schema)?"
)
_RENAMED = {
    "base_model": "model",
    "epoch_count": "n_epochs",
    "tuning_spec.supervised": "method.supervised",
    "supervised": "method.supervised",
    "preference.beta": "method.dpo.hyperparameters.beta",
    "preference": "method.dpo",
    "start_adapter": "model",
    "parts": "part_ids",
    "quality_rules": "quality",
    "split.validation_share": "validation_share",
    "split.seed": "seed",
    "texts": "input",
}


def install(app: FastAPI) -> None:
    """Have every failure of `app` answered in OpenAI's form."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _defect)


def body_of(error: PlatformError) -> dict[str, Any]:
    """Return the body that tells of `error`; also a frame of a stream."""
    return _told(error)[1]


def answer(error: PlatformError) -> JSONResponse:
    """Return the response that tells of `error`."""
    status, body = _told(error)
    headers: dict[str, str] = {}
    quota = isinstance(error, errors.ResourceExhausted) and "QUOTA" in error.reason
    if quota or isinstance(error, _FINAL):
        headers["x-should-retry"] = "false"
    if status == 503 or RETRY_AFTER in error.metadata:
        seconds = float(error.metadata.get(RETRY_AFTER, "1"))
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body, status, headers)


def too_large() -> HTTPException:
    """Return the refusal of a body; an HTTPException, for only those pass while one is parsed."""
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def answer_http(error: HTTPException, method: str, path: str) -> JSONResponse:
    """Return the response that tells of what HTTP itself calls wrong."""
    status = HTTPStatus(error.status_code)
    message, code = str(error.detail), status.phrase.lower().replace(" ", "_")
    if status == HTTPStatus.NOT_FOUND:
        message, code = f"Unknown request URL: {method} {path}", "unknown_url"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{method} is not allowed on {path}"
    elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        message, code = "The body is too large", "body_too_large"
    return JSONResponse(_body(status, message, None, code), status, error.headers)


def job_error(status: status_pb2.Status) -> dict[str, str | None]:
    """Return a failure kept in a record as `{code, message, param}`."""
    error = from_status(status)
    param, message = _worded(error)
    return {"code": error.reason.lower(), "message": message, "param": param}


def invalid(message: str, param: str | None, *, reason: str = "INVALID_VALUE") -> PlatformError:
    """Return the refusal of a request parameter."""
    return errors.InvalidArgument(message, reason=reason, field=param)


def _told(error: PlatformError) -> tuple[int, dict[str, Any]]:
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    param, message = _worded(error)
    code = error.reason.lower()
    if isinstance(error, errors.NotFound):
        message, code = names.absent(error)
    # What a parameter refers to is part of the request: wrong there is a bad request, unless the
    # model itself is what is asked.
    if param is not None and status in (404, 409) and code != "model_not_found":
        status = 400
    if isinstance(error, errors.ResourceExhausted) and RETRY_AFTER in error.metadata:
        code = "rate_limit_exceeded"
    if error.reason == "FILE_TOO_LARGE":
        status = 413
    return status, _body(status, message, param, code)


def _worded(error: PlatformError) -> tuple[str | None, str]:
    """Return parameter and message with OpenAI's words in place of the owners'."""
    message = names.public_text(error.message)
    if error.field is None or error.field in _RESOURCE_FIELDS:
        return None, message
    param = _param(error.field)
    message = _replaced(message, error.field, param)
    # Some sentences call a field by its last name.
    return param, _replaced(message, *(path.rpartition(".")[2] for path in (error.field, param)))


def _replaced(message: str, own: str, public: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(own)}(?![\w\[])", lambda _: public, message)


def _param(field: str) -> str:
    if field in _FIELDS:
        return _FIELDS[field]
    path = re.sub(r"\[(\w+)\]", r".\1", _OWN_FIELD.sub("", field))
    path = _FUNCTION.sub(r"\1.function.\2", _RECIPE.sub(r"\1", path))
    for own, public in _RENAMED.items():
        path = re.sub(rf"^{re.escape(own)}(?=\.|$)|(?<=hyperparameters\.){own}$", public, path)
    return path


def _body(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def _platform_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PlatformError)
    return answer(error)


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(_validation_body(error.errors()), 400)


_BODY_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def _validation_body(found: Sequence[Any]) -> dict[str, Any]:
    first: Mapping[str, Any] = found[0]
    if first["type"] == "json_invalid":
        return _body(400, "The body is not valid JSON", None, "invalid_json")
    path = [str(step) for step in first["loc"][1:] if step != "[key]"]
    if not path:
        return _body(400, "The body must be a JSON object", None, "invalid_type")
    param = ".".join(path)
    code = _BODY_CODES.get(first["type"], "invalid_value")
    said = str(first["msg"]).removeprefix("Value error, ")
    if code == "unknown_parameter":
        said = "is not known"
    return _body(400, f"{param}: {said}", param, code)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer_http(error, request.method, request.url.path)


async def _defect(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(_body(500, "internal error", None, "internal"), 500)
