"""What may be asked of a dataset: every field checked before anything is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier_common.errors import InvalidArgument
from luthier_common.names import parse

from luthier_dataset.quality.report import actions
from luthier_dataset.recipes.recipe import Kind, Shape

BASE_MODEL = "projects/{project}/baseModels/{base_model}"
_ADAPTER = "projects/{project}/adapters/{adapter}"
_MOST_SOURCES = 1000
_LONGEST_TEXT = 255
_MOST_ASKED = 1_000_000
"""Bound of the numbers in recipes; anything beyond is a slip."""
_LARGEST_SHARE = 0.5


def check_dataset(draft: Dataset, request_id: str, kinds: Mapping[str, Kind]) -> None:
    """Refuse what no build could do; InvalidArgument naming the field."""
    parse(draft.base_model, BASE_MODEL, field="dataset.base_model")
    sources = list(draft.source_files)
    if not sources or len(sources) > _MOST_SOURCES:
        raise invalid("source_files", f"must name 1 to {_MOST_SOURCES} files")
    if len(set(sources)) < len(sources):
        raise invalid("source_files", "names a file twice")
    for field, text in (("display_name", draft.display_name), ("request_id", request_id)):
        if len(text) > _LONGEST_TEXT or not text.isprintable():
            raise invalid(field, f"must be at most {_LONGEST_TEXT} printable characters")
    if not 0 <= draft.split.validation_share <= _LARGEST_SHARE:
        raise invalid("split.validation_share", f"must be between 0 and {_LARGEST_SHARE}")
    try:
        actions(draft.quality_rules)
    except ValueError as error:
        raise invalid("quality_rules", str(error)) from error
    _check_recipes(draft, kinds)


def check_shapes_read(draft: Dataset, kinds: Mapping[str, Kind]) -> None:
    """Refuse recipes known to make conversations, which a model without chat template cannot read.

    What is known only from the documents, the build looks at.
    """
    for number, recipe in enumerate(draft.recipes):
        name = recipe.WhichOneof("recipe") or ""
        if kinds[name].shape(recipe) not in (Shape.TEXT, Shape.PAIR, None):
            raise invalid(
                f"recipes[{number}]",
                f"makes conversations ({name}), and {draft.base_model} has no chat template to "
                "read them by; recipes of texts work, and of pairs (sequence_to_sequence)",
            )


def models_asked(draft: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the models that the recipes name, each with the path of its field."""
    for number, recipe in enumerate(draft.recipes):
        for path, field, value in _fields(recipe, f"recipes[{number}]"):
            if field.name == "model" and value:
                yield path, value


def invalid(field: str, what: str) -> InvalidArgument:
    """Return the error of a field of the dataset."""
    path = field if field == "request_id" else f"dataset.{field}"
    return InvalidArgument(f"{path} {what}", reason="INVALID_DATASET", field=path)


def _check_recipes(draft: Dataset, kinds: Mapping[str, Kind]) -> None:
    names = [recipe.WhichOneof("recipe") for recipe in draft.recipes]
    if not names:
        raise invalid("recipes", "must have at least one recipe")
    if None in names:
        raise invalid(f"recipes[{names.index(None)}]", "must be one of the known recipes")
    if len(set(names)) < len(names):
        raise invalid("recipes", "has a recipe twice")
    for number, recipe in enumerate(draft.recipes):
        _check_values(recipe, f"recipes[{number}]")
        try:
            kinds[names[number] or ""].check(recipe)
        except ValueError as error:
            field, _, what = str(error).partition(": ")
            raise invalid(f"recipes[{number}].{names[number]}.{field}", what) from error
    _check_shapes(draft, kinds)
    for recipe in draft.recipes:
        if recipe.context.question_field and draft.split.validation_share and len(names) > 1:
            raise invalid(
                "split.validation_share",
                "cannot be kept where questions of a table (`context`) stand beside other recipes: "
                "rows of its passages and rows of the table would part; make a dataset of each",
            )


def _check_shapes(draft: Dataset, kinds: Mapping[str, Kind]) -> None:
    """Refuse recipes that are known to make rows of different shapes: a training file has one.

    What is known only from the documents, the build looks at.
    """
    shapes: dict[str, str] = {}
    for recipe in draft.recipes:
        name = recipe.WhichOneof("recipe") or ""
        if shape := kinds[name].shape(recipe):
            shapes.setdefault(shape, name)
    if len(shapes) > 1:
        parts = ", ".join(f"{shape} rows by {name}" for shape, name in shapes.items())
        raise invalid(
            "recipes",
            f"make rows of different shapes ({parts}), which one training file cannot hold; "
            "make a dataset of each",
        )


def _check_values(recipe: Recipe, prefix: str) -> None:
    for path, field, value in _fields(recipe, prefix):
        if field.type == FieldDescriptor.TYPE_INT32 and not 0 <= value <= _MOST_ASKED:
            raise invalid(path, f"must be between 0 and {_MOST_ASKED}")
        enum = field.enum_type
        if enum is not None and value not in enum.values_by_number:
            raise invalid(path, "is not one of the known values")
        if field.name == "model":
            parse(value, _ADAPTER if "/adapters/" in value else BASE_MODEL, field=f"dataset.{path}")


def _fields(message: Message, prefix: str) -> Iterator[tuple[str, FieldDescriptor, Any]]:
    """Yield every field that is set, messages followed, with its path."""
    for field, value in message.ListFields():
        path = f"{prefix}.{field.name}"
        if field.type == FieldDescriptor.TYPE_MESSAGE and isinstance(value, Message):
            yield from _fields(value, path)
        else:
            yield path, field, value
