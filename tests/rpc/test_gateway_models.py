"""Models through the official SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from luthier.inference.v1 import base_model_service_pb2
from luthier.policy.v1 import policy_pb2
from luthier_common.errors import FailedPrecondition, Unavailable

from tests.support.gateway import RunningGateway
from tests.support.scripted_owners import Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

TUNED = "ft:luthier-starter:default:support:ad-1"


def retrieving(model: str) -> Callable[[Any], Any]:
    return lambda client: client.models.retrieve(model)


async def test_base_models_and_tuned_models_are_listed_together(sdk: Sdk, owners: Owners) -> None:
    owners.add_model("own-base", project="default")
    owners.add_adapter("ad-1")
    models = await sdk.all(lambda c: c.models.list())
    assert {model.id: model.owned_by for model in models} == {
        "own-base": "default",
        "luthier-starter": "library",
        TUNED: "default",
    }
    assert {model.object for model in models} == {"model"}
    assert all(model.created > 0 for model in models)
    assert next(model for model in models if model.id == TUNED).parent == "luthier-starter"


async def test_a_hidden_model_of_the_library_is_listed_once(sdk: Sdk, owners: Owners) -> None:
    owners.add_model("luthier-starter", project="default")
    models = await sdk.all(lambda c: c.models.list())
    assert [(model.id, model.owned_by) for model in models] == [("luthier-starter", "default")]
    found = await sdk(lambda c: c.models.retrieve("luthier-starter"))
    assert found.owned_by == "default"


async def test_more_models_than_an_owners_page_are_all_listed(sdk: Sdk, owners: Owners) -> None:
    for number in range(1_200):
        owners.add_adapter(f"ad-{number}")
    models = await sdk.all(lambda c: c.models.list())
    assert len({model.id for model in models}) == 1_201


async def test_a_tuned_model_is_retrieved_by_its_full_name_only(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    assert (await sdk(lambda c: c.models.retrieve(TUNED))).id == TUNED
    others = (
        "ad-1",
        "ft:luthier-starter:default::ad-1",
        "ft:luthier-starter:default:other:ad-1",
        "ft:another-base:default:support:ad-1",
        "ft:luthier-starter:another:support:ad-1",
        "ft:luthier-starter:default:ad-1",
    )
    for other in others:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk(retrieving(other))
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"


@pytest.mark.parametrize("suffix", ["", "a:b", "line/of/business", "größe & co?#%41", "a b"])
async def test_any_suffix_can_be_part_of_a_name(sdk: Sdk, owners: Owners, suffix: str) -> None:
    owners.add_adapter("ad-1", suffix=suffix)
    name = f"ft:luthier-starter:default:{suffix}:ad-1"
    assert (await sdk(lambda c: c.models.retrieve(name))).id == name
    assert (await sdk(lambda c: c.models.delete(name))).id == name
    assert not owners.adapters


async def test_a_tuned_model_can_be_deleted(sdk: Sdk, owners: Owners) -> None:
    owners.add_adapter("ad-1")
    deleted = await sdk(lambda c: c.models.delete(TUNED))
    assert (deleted.id, deleted.object, deleted.deleted) == (TUNED, "model", True)
    with pytest.raises(openai.NotFoundError):
        await sdk(lambda c: c.models.delete(TUNED))


async def test_a_base_model_of_the_project_can_be_deleted(sdk: Sdk, owners: Owners) -> None:
    owners.add_model("own-base", project="default")
    assert (await sdk(lambda c: c.models.delete("own-base"))).deleted is True
    assert "projects/default/baseModels/own-base" not in owners.base_models


async def test_a_model_of_the_library_cannot_be_deleted(sdk: Sdk, owners: Owners) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await sdk(lambda c: c.models.delete("luthier-starter"))
    assert caught.value.code == "model_shared"
    assert "projects/library/baseModels/luthier-starter" in owners.base_models


async def test_a_model_in_use_is_a_conflict(sdk: Sdk, owners: Owners) -> None:
    owners.add_model("own-base", project="default")
    owners.failures[base_model_service_pb2.DeleteBaseModelRequest] = FailedPrecondition(
        "projects/default/baseModels/own-base has adapters", reason="BASE_MODEL_IN_USE"
    )
    with pytest.raises(openai.ConflictError) as caught:
        await sdk(lambda c: c.models.delete("own-base"))
    assert "own-base has adapters" in caught.value.message


async def test_a_model_that_cannot_be_looked_up_is_not_called_absent(
    sdk: Sdk, owners: Owners
) -> None:
    owners.failure = Unavailable("try again", reason="STARTING")
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk(lambda c: c.models.retrieve("luthier-starter"))
    assert caught.value.status_code == 503


async def test_a_viewer_sees_models_and_deletes_none(
    gateway: RunningGateway, owners: Owners
) -> None:
    owners.add_adapter("ad-1")
    key = await gateway.issue_key(policy_pb2.ROLE_VIEWER)
    async with gateway.client(key.secret) as client:
        assert (await client.models.retrieve(TUNED)).id == TUNED
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.models.delete(TUNED)
    assert caught.value.code == "role_too_low"
    assert caught.value.type == "permission_error"
    assert owners.adapters
