"""What the registry takes and what the router serves of it: templates, T5, held and tuned models.

No engine can start here: the snapshots have no real weights, so an answer that is not a refusal of
the router's own would be an ENGINE_NOT_STARTED.
"""

import json
import struct
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import (
    CreateAdapterRequest,
    GetAdapterRequest,
    ListAdaptersRequest,
)
from luthier.inference.v1.base_model_pb2 import BaseModel, TuningOrigin
from luthier.inference.v1.base_model_service_pb2 import (
    CreateBaseModelRequest,
    DeleteBaseModelRequest,
    GetBaseModelRequest,
)
from luthier_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PlatformError,
)
from luthier_common.identity import Role
from luthier_common.nats_client import open_nats
from luthier_common.records.collection import Collection
from luthier_common.records.jetstream import open_records
from luthier_inference.base_models import complete_older
from luthier_inference.importer import import_base_model
from luthier_inference.origins import BASE_MODEL

from tests.support.inference_service import Inference, inference_service
from tests.support.safetensors_files import Part, tensor_file

LLAMA = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}
T5 = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"], "bias": "none"}
MATRICES = ("base_model.model.model.q.lora_A.weight", "base_model.model.model.q.lora_B.weight")


def safetensors_bytes(*names: str) -> bytes:
    header = {
        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * at, 16 * at + 16]}
        for at, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16 * len(names))


@pytest.fixture
async def inference(tmp_path: Path) -> AsyncIterator[Inference]:
    async with inference_service(tmp_path) as running:
        yield running


class Folders:
    """Writes snapshots and adapters, each into a folder of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0

    def base(self, config: dict[str, Any] = LLAMA, *, template: bool = True, **files: str) -> Path:
        settings = {"chat_template": "{{ messages }}"} if template else {}
        return self._write(
            {
                "config.json": json.dumps(config).encode(),
                "tokenizer.json": json.dumps({"model": {"type": "BPE"}}).encode(),
                "tokenizer_config.json": json.dumps(settings).encode(),
                "model.safetensors": safetensors_bytes("model.q.weight", "b"),
            }
            | {name.replace("_jinja", ".jinja"): text.encode() for name, text in files.items()}
        )

    def adapter(self, **changes: object) -> Path:
        return self._write(
            {
                "adapter_config.json": json.dumps(LORA | changes).encode(),
                "adapter_model.safetensors": safetensors_bytes(*MATRICES),
            }
        )

    def of_method(self, config: dict[str, Any], parts: Mapping[str, tuple[int, ...]]) -> Path:
        """Write an adapter for the one layer, of another method than LoRA."""
        tensors = {f"base_model.model.model.q.{part}": Part(parts[part]) for part in parts}
        return self._write(
            {
                "adapter_config.json": json.dumps({"target_modules": ["q"], **config}).encode(),
                "adapter_model.safetensors": tensor_file(tensors),
            }
        )

    def wide_base(self, size: int) -> Path:
        """Write a snapshot whose layer has so many inputs and outputs."""
        folder = self.base()
        weights = tensor_file({"model.q.weight": Part((size, size), "F16"), "b": Part((2,))})
        (folder / "model.safetensors").write_bytes(weights)
        return folder

    def _write(self, files: dict[str, bytes]) -> Path:
        self._count += 1
        folder = self._root / f"folder-{self._count}"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


async def publish(
    inference: Inference, base: BaseModel, folder: Path, name: str = "a-1", hold_reason: str = ""
) -> Adapter:
    adapter = await inference.adapter(folder, base)
    adapter.hold_reason = hold_reason
    request = CreateAdapterRequest(parent="projects/acme", adapter=adapter, adapter_id=name)
    created: Adapter = await inference.adapters().CreateAdapter(request)
    return created


def origin_of(base: BaseModel, **changes: Any) -> TuningOrigin:
    given: dict[str, Any] = {
        "training_job": "projects/acme/trainingJobs/ftjob-1",
        "base_model": base.name,
        "base_model_digest": base.digest,
        "dataset_digest": "d" * 64,
        "configuration": {"method": "full"},
        "metrics": {"valid_loss": 0.5},
        "suffix": "support",
    }
    return TuningOrigin(**(given | changes))


async def register(
    inference: Inference,
    folder: Path,
    origin: TuningOrigin,
    *,
    role: Role = Role.SERVICE,
    name: str = "tuned-1",
) -> BaseModel:
    """Register what full tuning made, as the trainer does."""
    base = await import_base_model(folder, inference.blobs, "acme")
    base.tuning_origin.CopyFrom(origin)
    request = CreateBaseModelRequest(parent="projects/acme", base_model=base, base_model_id=name)
    created: BaseModel = await inference.base_models("acme", role).CreateBaseModel(request)
    return created


async def refusal(inference: Inference, model: str) -> PlatformError:
    with pytest.raises(FailedPrecondition) as caught:
        await inference.chat(model)
    assert caught.value.field == "model", "so that it is the request that is wrong"
    return caught.value


async def test_a_model_without_a_chat_template_is_kept_and_not_asked(
    inference: Inference, folders: Folders
) -> None:
    bare = await inference.import_base(folders.base(template=False), name="bare")
    assert bare.HasField("has_chat_template")
    assert not bare.has_chat_template
    told = await refusal(inference, bare.name)
    assert told.reason == "CHAT_TEMPLATE_MISSING"
    assert "ask it for completions, or put a chat_template.jinja beside its files" in told.message
    adapter = await publish(inference, bare, folders.adapter())
    assert (await refusal(inference, adapter.name)).reason == "CHAT_TEMPLATE_MISSING"


async def test_either_place_of_a_chat_template_counts(
    inference: Inference, folders: Folders
) -> None:
    inside = await inference.import_base(folders.base(), name="inside")
    beside = folders.base(template=False, chat_template_jinja="{{ messages }}")
    assert inside.has_chat_template
    assert (await inference.import_base(beside, name="beside")).has_chat_template


async def test_records_older_than_the_field_have_a_template(inference: Inference) -> None:
    name = "projects/library/baseModels/old"
    async with open_nats(inference.nats_url, name="test") as nats:
        records = await open_records(nats.jetstream(), "inference")
        async with Collection(records, BaseModel, BASE_MODEL) as collection:
            await collection.create(name, BaseModel(architecture="LlamaForCausalLM"))
            bare = BaseModel(architecture="LlamaForCausalLM", has_chat_template=False)
            await collection.create("projects/library/baseModels/bare", bare)
            await complete_older(collection)
            assert (await collection.get(name)).has_chat_template
            assert not (await collection.get("projects/library/baseModels/bare")).has_chat_template
            before = await collection.get(name)
            await complete_older(collection)
            assert await collection.get(name) == before, "done once"


async def test_an_encoder_decoder_is_kept_with_adapters_and_answers_no_conversations(
    inference: Inference, folders: Folders
) -> None:
    base = await inference.import_base(folders.base(T5))
    assert (base.architecture, base.context_tokens) == ("T5ForConditionalGeneration", 512)
    adapter = await publish(inference, base, folders.adapter(task_type="SEQ_2_SEQ_LM"))
    for name in (base.name, adapter.name):
        told = await refusal(inference, name)
        assert told.reason == "CHAT_NOT_SERVED"
        assert "it answers texts, not conversations; ask it for completions" in told.message
    assert not (inference.work / "base-models").exists(), "no engine was started for that"


@pytest.mark.parametrize(
    ("config", "task_type"), [(T5, "CAUSAL_LM"), (LLAMA, "SEQ_2_SEQ_LM"), (T5, "SEQ_CLS")]
)
async def test_the_task_of_an_adapter_is_that_of_its_base(
    inference: Inference, folders: Folders, config: dict[str, Any], task_type: str
) -> None:
    base = await inference.import_base(folders.base(config))
    with pytest.raises(InvalidArgument, match="must have task_type") as caught:
        await publish(inference, base, folders.adapter(task_type=task_type))
    assert caught.value.reason == "UNSUPPORTED_ADAPTER"


async def test_adapters_of_other_methods_are_kept_while_their_rank_can_be_served(
    inference: Inference, folders: Folders
) -> None:
    base = await inference.import_base(folders.wide_base(1100))
    adalora = {"lora_A": (3, 1100), "lora_E": (3, 1), "lora_B": (1100, 3)}
    pattern = {"model.q.lora_E": [True, False, True, True]}
    lokr = {"lokr_w1": (10, 11), "lokr_w2_a": (110, 8), "lokr_w2_b": (8, 100)}
    for name, config, parts in (
        (
            "a",
            {"peft_type": "ADALORA", "init_r": 4, "lora_alpha": 8, "rank_pattern": pattern},
            adalora,
        ),
        ("b", {"peft_type": "LOHA", "r": 32, "alpha": 8}, loha_parts(32, 1100)),
        ("c", {"peft_type": "LOKR", "r": 8, "alpha": 8, "decompose_factor": 10}, lokr),
    ):
        adapter = await publish(inference, base, folders.of_method(config, parts), name)
        assert adapter.state == Adapter.READY
    large = folders.of_method({"peft_type": "LOHA", "r": 33, "alpha": 8}, loha_parts(33, 1100))
    with pytest.raises(InvalidArgument, match=r"rank 1089 as LoRA.*r of at most 32") as caught:
        await publish(inference, base, large, "d")
    assert caught.value.reason == "RANK_OUT_OF_LIMITS"
    assert caught.value.field == "adapter.files"


def loha_parts(r: int, size: int) -> dict[str, tuple[int, ...]]:
    sides = {"a": (size, r), "b": (r, size)}
    return {f"hada_w{number}_{side}": sides[side] for number in (1, 2) for side in "ab"}


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({**T5, "n_positions": 1024}, 1024),
        ({"architectures": ["MT5ForConditionalGeneration"], "model_type": "mt5"}, 512),
        ({"architectures": ["MptForCausalLM"], "model_type": "mpt", "max_seq_len": 2048}, 2048),
    ],
)
async def test_the_context_is_found_where_each_family_says_it(
    inference: Inference, folders: Folders, config: dict[str, Any], context: int
) -> None:
    assert (await inference.import_base(folders.base(config))).context_tokens == context


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["BartForConditionalGeneration"], "model_type": "bart", "n_ctx": 8},
        {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "n_ctx": 8},
        {"architectures": ["T5EncoderModel"], "model_type": "t5"},
        {"architectures": ["T5ForConditionalGeneration"], "n_ctx": 8},
        {"architectures": ["T5ForConditionalGeneration"], "model_type": ["t5"]},
        {"architectures": ["T5ForConditionalGeneration"] * 2, "model_type": "t5"},
    ],
)
async def test_other_encoder_decoders_are_refused(
    inference: Inference, folders: Folders, config: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument, match="of T5 or mT5") as caught:
        await inference.import_base(folders.base(config))
    assert caught.value.reason == "UNSUPPORTED_ARCHITECTURE"


async def test_code_beside_a_family_that_needs_none_is_left_behind(
    inference: Inference, folders: Folders
) -> None:
    code = {"auto_map": {"AutoConfig": "configuration_falcon.FalconConfig"}}
    falcon = {"architectures": ["FalconForCausalLM"], "max_position_embeddings": 2048, **code}
    folder = folders.base({**falcon, "model_type": "falcon"})
    (folder / "configuration_falcon.py").write_text("raise SystemExit")
    base = await inference.import_base(folder)
    assert "configuration_falcon.py" not in {file.path for file in base.files}
    for unknown in (falcon, {**falcon, "model_type": "RefinedWebModel"}):
        with pytest.raises(InvalidArgument) as caught:
            await inference.import_base(folders.base(unknown), name="other")
        assert caught.value.reason == "CUSTOM_CODE"


async def test_a_held_adapter_is_kept_and_not_served(
    inference: Inference, folders: Folders
) -> None:
    base = await inference.import_base(folders.base())
    reason = "rougeL is 0.1, the gate asks for 0.2"
    folder = folders.adapter()
    held = await publish(inference, base, folder, hold_reason=reason)
    stub = inference.adapters("acme", Role.VIEWER)
    assert await stub.GetAdapter(GetAdapterRequest(name=held.name)) == held
    assert list(
        (await stub.ListAdapters(ListAdaptersRequest(parent="projects/acme"))).adapters
    ) == [held]
    told = await refusal(inference, held.name)
    assert told.reason == "ADAPTER_HELD"
    assert told.message == f"{held.name} is kept but not served: {reason}"
    assert await publish(inference, base, folder, hold_reason=reason) == held
    for other in ("", "another reason"):
        with pytest.raises(AlreadyExists):
            await publish(inference, base, folder, hold_reason=other)


async def test_a_model_of_full_tuning_is_registered_once(
    inference: Inference, folders: Folders
) -> None:
    parent = await inference.import_base(folders.base())
    folder = folders.base({**LLAMA, "tuned": True})
    tuned = await register(inference, folder, origin_of(parent))
    assert tuned.name == "projects/acme/baseModels/tuned-1"
    assert tuned.tuning_origin == origin_of(parent)
    assert tuned.digest != parent.digest
    assert await register(inference, folder, origin_of(parent)) == tuned
    with pytest.raises(AlreadyExists, match="another tuning_origin"):
        await register(inference, folder, origin_of(parent, dataset_digest="e" * 64))
    with pytest.raises(AlreadyExists, match="other bytes"):
        await register(inference, folders.base({**LLAMA, "tuned": 2}), origin_of(parent))


async def test_a_repeat_with_a_figure_that_is_no_number_changes_nothing(
    inference: Inference, folders: Folders
) -> None:
    parent = await inference.import_base(folders.base())
    origin = origin_of(parent, metrics={"valid_loss": float("nan")})
    folder = folders.base()
    tuned = await register(inference, folder, origin)
    assert (await register(inference, folder, origin)).etag == tuned.etag


async def test_the_origin_of_a_model_is_checked(inference: Inference, folders: Folders) -> None:
    parent = await inference.import_base(folders.base())
    foreign = await inference.import_base(folders.base(), project="other")
    folder = folders.base({**LLAMA, "tuned": True})
    absent = "projects/library/baseModels/none"
    bad: list[tuple[dict[str, Any], type[PlatformError]]] = [
        ({"base_model_digest": "0" * 64}, FailedPrecondition),
        ({"base_model": absent}, NotFound),
        ({"base_model": foreign.name, "base_model_digest": foreign.digest}, NotFound),
        ({"training_job": "projects/other/trainingJobs/ftjob-1"}, NotFound),
        ({"training_job": "ftjob-1"}, InvalidArgument),
        ({"dataset_digest": ""}, InvalidArgument),
    ]
    for changes, error in bad:
        with pytest.raises(error):
            await register(inference, folder, origin_of(parent, **changes))
    with pytest.raises(PermissionDenied, match="only the trainer gives"):
        await register(inference, folder, origin_of(parent), role=Role.OPERATOR)
    with pytest.raises(NotFound):
        await inference.base_models().GetBaseModel(
            GetBaseModelRequest(name="projects/acme/baseModels/tuned-1")
        )


async def test_a_held_model_and_what_was_tuned_on_it_are_not_served(
    inference: Inference, folders: Folders
) -> None:
    parent = await inference.import_base(folders.base())
    origin = origin_of(parent, hold_reason="valid_loss is 2, the gate asks for 1")
    held = await register(inference, folders.base({**LLAMA, "tuned": True}), origin)
    adapter = await publish(inference, held, folders.adapter())
    for name in (held.name, adapter.name):
        told = await refusal(inference, name)
        assert told.reason == "MODEL_HELD"
        assert told.message == f"{held.name} is kept but not served: {origin.hold_reason}"


async def test_a_tuned_model_stands_by_itself(inference: Inference, folders: Folders) -> None:
    parent = await inference.import_base(folders.base())
    tuned = await register(inference, folders.base({**LLAMA, "tuned": 1}), origin_of(parent))
    again = origin_of(tuned, training_job="projects/acme/trainingJobs/ftjob-2")
    folder = folders.base({**LLAMA, "tuned": 2})
    twice = await register(inference, folder, again, name="tuned-2")
    await inference.base_models("library").DeleteBaseModel(DeleteBaseModelRequest(name=parent.name))
    await inference.base_models().DeleteBaseModel(DeleteBaseModelRequest(name=tuned.name))
    read = await inference.base_models("acme", Role.VIEWER).GetBaseModel(
        GetBaseModelRequest(name=twice.name)
    )
    assert read == twice
