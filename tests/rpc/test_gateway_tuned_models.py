"""What tuning made, adapters and base models, by its public name through the official SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from luthier.inference.v1 import base_model_pb2, generation_service_pb2
from luthier.policy.v1 import policy_pb2
from luthier_common.errors import FailedPrecondition

from tests.support.gateway import RunningGateway
from tests.support.scripted_owners import BASE_DIGEST, Owners
from tests.support.sdk import Sdk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Ask = generation_service_pb2.StreamChatRequest
NAME = "projects/default/baseModels/b-1"
TUNED = "ft:luthier-starter:default:support:b-1"
ADAPTED = "ft:luthier-starter:default:support:ad-1"
HELLO: Any = [{"role": "user", "content": "Hello"}]


def add_tuned(owners: Owners, hold_reason: str = "") -> base_model_pb2.BaseModel:
    """Have a base model that full tuning made."""
    origin = base_model_pb2.TuningOrigin(
        base_model="projects/library/baseModels/luthier-starter",
        suffix="support",
        hold_reason=hold_reason,
    )
    base = base_model_pb2.BaseModel(digest=BASE_DIGEST, tuning_origin=origin)
    return owners.base_models.put(NAME, base)


def retrieving(model: str) -> Callable[[Any], Any]:
    return lambda client: client.models.retrieve(model)


async def test_a_tuned_base_model_is_shown_like_an_adapter(sdk: Sdk, owners: Owners) -> None:
    add_tuned(owners)
    owners.add_adapter("ad-1")
    models = {model.id: model for model in await sdk.all(lambda c: c.models.list())}
    assert models.keys() == {"luthier-starter", TUNED, ADAPTED}
    for name in (TUNED, ADAPTED):
        shown = models[name]
        assert (shown.owned_by, shown.parent, shown.object) == (
            "default", "luthier-starter", "model"
        )  # fmt: skip
        assert shown.created > 0
        assert not hasattr(shown, "held")
        assert (await sdk(retrieving(name))) == shown


async def test_a_tuned_base_model_has_one_full_name(sdk: Sdk, owners: Owners) -> None:
    add_tuned(owners)
    owners.add_model("plain", project="default")
    others = (
        "ft:luthier-starter:default::b-1",
        "ft:luthier-starter:default:other:b-1",
        "ft:another-base:default:support:b-1",
        "ft:luthier-starter:another:support:b-1",
        "ft:luthier-starter:default:support:plain",
    )
    for other in others:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk(retrieving(other))
        assert caught.value.code == "model_not_found"


async def test_the_id_that_a_parent_is_called_by_leads_to_it(sdk: Sdk, owners: Owners) -> None:
    add_tuned(owners)
    owners.add_adapter("ad-1").base_model = NAME
    adapter = await sdk(retrieving("ft:b-1:default:support:ad-1"))
    assert (await sdk(retrieving(adapter.parent))).id == TUNED


async def test_an_adapter_and_a_base_model_may_share_an_id(sdk: Sdk, owners: Owners) -> None:
    add_tuned(owners)
    owners.add_adapter("b-1", suffix="other")
    assert (await sdk(retrieving(TUNED))).id == TUNED
    assert (await sdk(retrieving("ft:luthier-starter:default:other:b-1"))).parent
    assert (await sdk(lambda c: c.models.delete(TUNED))).deleted is True
    assert "projects/default/adapters/b-1" in owners.adapters
    assert NAME not in owners.base_models


async def test_a_tuned_base_model_answers(sdk: Sdk, owners: Owners) -> None:
    add_tuned(owners)
    answer = await sdk(lambda c: c.chat.completions.create(model=TUNED, messages=HELLO))
    assert (answer.model, answer.choices[0].message.content) == (TUNED, "Hello")
    assert owners.last(Ask).model == NAME


async def test_a_tuned_base_model_can_be_deleted(sdk: Sdk, owners: Owners) -> None:
    add_tuned(owners)
    deleted = await sdk(lambda c: c.models.delete(TUNED))
    assert (deleted.id, deleted.deleted) == (TUNED, True)
    assert NAME not in owners.base_models
    with pytest.raises(openai.NotFoundError):
        await sdk(retrieving(TUNED))


async def test_a_tuner_deletes_no_base_model(gateway: RunningGateway, owners: Owners) -> None:
    add_tuned(owners)
    key = await gateway.issue_key(policy_pb2.ROLE_TUNER)
    async with gateway.client(key.secret) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.models.delete(TUNED)
    assert caught.value.code == "role_too_low"
    assert NAME in owners.base_models


async def test_a_held_model_says_why(sdk: Sdk, owners: Owners) -> None:
    reason = "rougeL is 0.1, the gate asks for 0.2"
    add_tuned(owners, hold_reason=reason)
    owners.add_adapter("ad-1").hold_reason = reason
    models = {model.id: model for model in await sdk.all(lambda c: c.models.list())}
    assert {name for name, model in models.items() if hasattr(model, "held")} == {TUNED, ADAPTED}
    assert {models[name].held for name in (TUNED, ADAPTED)} == {reason}


@pytest.mark.parametrize("reason", ["ADAPTER_HELD", "CHAT_TEMPLATE_MISSING", "ENGINE_CANNOT_SERVE"])
async def test_a_model_that_is_not_served_is_a_bad_request(
    sdk: Sdk, owners: Owners, reason: str
) -> None:
    owners.add_adapter("ad-1")
    owners.failures[Ask] = FailedPrecondition(
        "projects/default/adapters/ad-1 is not served", reason=reason, field="model"
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk(lambda c: c.chat.completions.create(model=ADAPTED, messages=HELLO))
    error = caught.value
    assert (error.code, error.param) == (reason.lower(), "model")
    assert "ad-1 is not served" in error.message
    asked = [one for one in owners.requests if isinstance(one, Ask)]
    assert len(asked) == 1, "asking again would not help, so the SDK does not"
