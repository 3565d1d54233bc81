"""The body of `POST /v1/datasets` and of its preview."""

from __future__ import annotations

from typing import Annotated, Any

from luthier.dataset.v1 import dataset_pb2, quality_pb2
from pydantic import ConfigDict, Field

from luthier_gateway.openai.jobs import base_model
from luthier_gateway.openai.names import DATASETS, FILES, resource
from luthier_gateway.owners import Owners, caller_project
from luthier_gateway.proto_json import fill
from luthier_gateway.recipes import to_recipe
from luthier_gateway.requests import Body, Text

_INT64 = 2**63


class DatasetRequest(Body):
    """What to build. A field that nobody knows is refused: a rule ignored is a rule broken."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=300)]
    source_files: Annotated[list[Text], Field(min_length=1)]
    recipes: Annotated[list[dict[str, Any]], Field(min_length=1)]
    name: Annotated[str, Field(max_length=200)] = ""
    validation_share: Annotated[float, Field(ge=0, le=0.5)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    quality: tuple[dict[str, Any], ...] = ()
    skip_unreadable: bool = False
    generations_of: Text | None = None

    async def to_proto(self, owners: Owners) -> dataset_pb2.Dataset:
        """Return the dataset; InvalidArgument names what is wrong."""
        dataset = dataset_pb2.Dataset(
            display_name=self.name,
            source_files=[resource(caller_project(), FILES, one) for one in self.source_files],
            recipes=[
                await to_recipe(owners, recipe, f"recipes.{place}")
                for place, recipe in enumerate(self.recipes)
            ],
            base_model=await base_model(owners, self.model),
            quality_rules=[
                _rule(rule, f"quality.{place}") for place, rule in enumerate(self.quality)
            ],
            skip_unreadable=self.skip_unreadable,
        )
        if self.generations_of:
            dataset.generations_of = resource(caller_project(), DATASETS, self.generations_of)
        if self.validation_share is not None or self.seed is not None:
            dataset.split.validation_share = self.validation_share or 0
            dataset.split.seed = self.seed or 0
        return dataset


class CreationRequest(DatasetRequest):
    """What to build, or only to check."""

    validate_only: bool = False


class PreviewRequest(DatasetRequest):
    """What to look at the first rows of."""

    limit: Annotated[int, Field(ge=1, le=50)] = 10


def _rule(given: dict[str, Any], path: str) -> quality_pb2.QualityRule:
    rule = quality_pb2.QualityRule()
    fill(rule, given, path)
    return rule
