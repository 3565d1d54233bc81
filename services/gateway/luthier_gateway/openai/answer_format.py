"""`response_format`: what an answer must be like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from luthier.inference.v1.generation_pb2 import AnswerFormat
from pydantic import Field, field_validator

from luthier_gateway.openai.generation_request import FunctionName, JsonObject, absent
from luthier_gateway.requests import Body


class JsonSchema(Body):
    """A JSON schema; `strict` asks for what is always done."""

    name: FunctionName
    text: Annotated[JsonObject, Field(alias="schema")] = "{}"


class ResponseFormat(Body):
    """Text as it comes, any JSON object, or JSON that a schema describes."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[JsonSchema | None, Field(validate_default=True)] = None

    @field_validator("json_schema")
    @classmethod
    def _given(cls, schema: JsonSchema | None, info: Any) -> JsonSchema | None:
        if schema is None and info.data.get("type") == "json_schema":
            raise absent()
        return schema

    def to_proto(self) -> AnswerFormat | None:
        """Return the format; None where any text will do."""
        if self.type == "json_schema" and self.json_schema:
            return AnswerFormat(json_schema=self.json_schema.text)
        return AnswerFormat(json_object=True) if self.type == "json_object" else None
