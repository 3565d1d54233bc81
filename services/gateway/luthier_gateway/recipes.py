"""Recipes of datasets as the body of a request has them: `{"type": "raw", "pack": true}`.

Types and fields are those of `recipe.proto`; models go by their public names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import Message
from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier_common.names import id_of
from luthier_common.plain import shown

from luthier_gateway.openai import models
from luthier_gateway.openai.errors import invalid
from luthier_gateway.owners import Owners
from luthier_gateway.proto_json import fill

_TYPES = tuple(field.name for field in Recipe.DESCRIPTOR.oneofs_by_name["recipe"].fields)
_MODEL = "model"
"""The field of every configuration that names a model."""


async def to_recipe(owners: Owners, given: Mapping[str, Any], path: str) -> Recipe:
    """Return the recipe of a body; InvalidArgument names what is wrong below `path`."""
    kind = given.get("type")
    if kind not in _TYPES:
        place = f"{path}.type"
        raise invalid(f"{place} must be one of {', '.join(_TYPES)}", place)
    recipe = Recipe()
    configuration: Message = getattr(recipe, kind)
    configuration.SetInParent()
    fill(configuration, {key: value for key, value in given.items() if key != "type"}, path)
    for part, place in _with_models(configuration, path):
        setattr(part, _MODEL, await _resource(owners, getattr(part, _MODEL), f"{place}.{_MODEL}"))
    return recipe


def show_recipe(recipe: Recipe, public: Mapping[str, str]) -> dict[str, Any]:
    """Return a recipe as a body has it; `public` names adapters by their resource names."""
    copied = Recipe()
    copied.CopyFrom(recipe)
    kind = copied.WhichOneof("recipe")
    if kind is None:
        return {"type": None}
    configuration: Message = getattr(copied, kind)
    for part, _ in _with_models(configuration, ""):
        name = getattr(part, _MODEL)
        setattr(part, _MODEL, public.get(name) or id_of(name))
    return {"type": kind, **shown(configuration)}


def models_of(recipe: Recipe) -> Iterator[str]:
    """Yield the resource names of the models that write or judge for a recipe."""
    for part, _ in _with_models(recipe, ""):
        yield getattr(part, _MODEL)


def _with_models(message: Message, path: str) -> Iterator[tuple[Message, str]]:
    """Yield the parts of a configuration that name a model, with their places."""
    if _MODEL in message.DESCRIPTOR.fields_by_name and getattr(message, _MODEL):
        yield message, path
    for field, value in message.ListFields():
        if field.message_type is not None and not field.is_repeated:
            yield from _with_models(value, f"{path}.{field.name}")


async def _resource(owners: Owners, model: str, place: str) -> str:
    found = await models.find(owners, model)
    if found is None:
        raise invalid(f"The model '{model}' does not exist", place, reason="MODEL_NOT_FOUND")
    return found.name
