"""Base models and adapters through the real service: NATS records, a directory store, gRPC."""

import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from luthier.inference.v1 import adapter_service_pb2, events_pb2
from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.adapter_service_pb2 import (
    CreateAdapterRequest,
    DeleteAdapterRequest,
    GetAdapterRequest,
    ListAdaptersRequest,
)
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier.inference.v1.base_model_service_pb2 import (
    CreateBaseModelRequest,
    DeleteBaseModelRequest,
    GetBaseModelRequest,
    ListBaseModelsRequest,
)
from luthier_common.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PlatformError,
)
from luthier_common.events.subscribe import Event, Subscription
from luthier_common.identity import Role
from luthier_common.nats_client import open_nats

from tests.support.eventually import eventually
from tests.support.inference_service import Inference, inference_service

LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
TENSORS = {
    "base_model.model.model.q_proj.lora_A.weight": [2, 3],
    "base_model.model.model.q_proj.lora_B.weight": [3, 2],
}
LAYERS = {"model.q_proj.weight": [3, 3], "model.embed_tokens.weight": [13, 7]}


def safetensors_bytes(shapes: dict[str, list[int]]) -> bytes:
    header, offset = {}, 0
    for name, (rows, columns) in shapes.items():
        size = 4 * rows * columns
        entry = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, offset + size]}
        header[name] = entry
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "model.safetensors").write_bytes(safetensors_bytes(LAYERS))
    return folder


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(LORA))
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(TENSORS))
    return folder


@pytest.fixture
async def inference(tmp_path: Path) -> AsyncIterator[Inference]:
    async with inference_service(tmp_path) as running:
        yield running


async def publish(
    inference: Inference, adapter: Adapter, name: str = "support-1", project: str = "acme"
) -> Adapter:
    request = CreateAdapterRequest(parent=f"projects/{project}", adapter=adapter, adapter_id=name)
    created: Adapter = await inference.adapters(project).CreateAdapter(request)
    return created


async def test_an_import_fills_the_record_from_the_bytes(
    inference: Inference, snapshot: Path
) -> None:
    base = await inference.import_base(snapshot)
    assert base.name == "projects/library/baseModels/tiny"
    assert base.architecture == "LlamaForCausalLM"
    assert base.parameter_count == 100
    assert base.context_tokens == 512
    by_path = {file.path: file.sha256 for file in base.files}
    assert base.tokenizer_digest == by_path["tokenizer.json"]
    assert len(base.digest) == 64
    assert base.HasField("create_time")
    assert await inference.import_base(snapshot) == base, "the same bytes again change nothing"
    read = await inference.base_models("acme", Role.VIEWER).GetBaseModel(
        GetBaseModelRequest(name=base.name)
    )
    assert read == base, "the library is everybody's to read"


async def test_other_bytes_under_the_same_id_are_refused(
    inference: Inference, snapshot: Path
) -> None:
    base = await inference.import_base(snapshot)
    (snapshot / "README.md").write_text("another")
    with pytest.raises(AlreadyExists, match="exists with other bytes"):
        await inference.import_base(snapshot)
    other = await inference.import_base(snapshot, name="tiny-2")
    assert other.digest != base.digest


def without(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def holding(path: str, content: object) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()

    def write(folder: Path) -> None:
        (folder / path).write_bytes(data)

    return write


CONFIG = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}
MISSING_SHARD = {"weight_map": {"a": "model-2.safetensors"}}
HOSTILE = [
    (holding("model.safetensors", b"\x80\x04\x95 a pickle" * 9), "NOT_SAFETENSORS"),
    (holding("model.safetensors", safetensors_bytes({"a": [9, 9]})[:-1]), "TENSORS_TRUNCATED"),
    (holding("model.safetensors", struct.pack("<Q", 10**9) + b"{}"), "NOT_SAFETENSORS"),
    (holding("config.json", {**CONFIG, "auto_map": {"A": "evil.A"}}), "CUSTOM_CODE"),
    (holding("tokenizer_config.json", {"chat_template": "x", "auto_map": {}}), "CUSTOM_CODE"),
    (
        holding("config.json", {**CONFIG, "architectures": ["BertModel"]}),
        "UNSUPPORTED_ARCHITECTURE",
    ),
    (holding("config.json", {"architectures": ["GPT2LMHeadModel"]}), "CONTEXT_UNKNOWN"),
    (holding("config.json", b"[1"), "BAD_CONFIG"),
    (holding("tokenizer.json", {}), "BAD_TOKENIZER"),
    (holding("model.safetensors.index.json", MISSING_SHARD), "WEIGHTS_MISSING"),
]


@pytest.mark.parametrize(("spoil", "reason"), HOSTILE)
async def test_a_snapshot_that_cannot_be_served_is_refused(
    inference: Inference, snapshot: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(snapshot)
    with pytest.raises(InvalidArgument) as caught:
        await inference.import_base(snapshot)
    assert caught.value.reason == reason
    assert caught.value.field == "base_model.files"
    listed = await inference.base_models("library").ListBaseModels(
        ListBaseModelsRequest(parent="projects/library")
    )
    assert not listed.base_models


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "pickles are not read"),
        ("tokenizer.json", "make it with: python"),
    ],
)
async def test_the_importer_says_what_a_folder_lacks(
    inference: Inference, snapshot: Path, missing: str, says: str
) -> None:
    (snapshot / missing).rename(snapshot / "pytorch_model.bin")
    with pytest.raises(InvalidArgument, match=says):
        await inference.import_base(snapshot)


async def test_the_importer_leaves_code_and_pickles_behind(
    inference: Inference, snapshot: Path
) -> None:
    for name in ("pytorch_model.bin", "modeling_evil.py", ".hidden.safetensors"):
        (snapshot / name).write_bytes(b"x")
    base = await inference.import_base(snapshot)
    assert {file.path for file in base.files} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["../config.json", "/etc/passwd", "a/model.safetensors", "x.bin", "x.py", ".x.safetensors", ""],
)
async def test_a_path_outside_the_list_is_refused(
    inference: Inference, snapshot: Path, path: str
) -> None:
    base = await inference_files(inference, snapshot)
    base.files[0].path = path
    with pytest.raises(InvalidArgument) as caught:
        await create(inference, base)
    assert caught.value.reason == "FILE_NOT_ALLOWED"


async def inference_files(inference: Inference, snapshot: Path) -> BaseModel:
    files = [await inference.upload(path, "library") for path in sorted(snapshot.iterdir())]
    return BaseModel(files=files)


async def create(inference: Inference, base: BaseModel) -> BaseModel:
    request = CreateBaseModelRequest(
        parent="projects/library", base_model=base, base_model_id="tiny"
    )
    created: BaseModel = await inference.base_models("library").CreateBaseModel(request)
    return created


async def test_bytes_must_be_what_their_digest_says(inference: Inference, snapshot: Path) -> None:
    base = await inference_files(inference, snapshot)
    wrong = BaseModel(files=base.files)
    wrong.files[0].sha256 = "0" * 64
    with pytest.raises(FailedPrecondition) as missing:
        await create(inference, wrong)
    assert (missing.value.reason, missing.value.field) == ("BLOB_MISSING", "base_model.files[0]")
    wrong = BaseModel(files=base.files)
    wrong.files[1].size_bytes += 1
    with pytest.raises(InvalidArgument, match="bytes"):
        await create(inference, wrong)
    inference.flip_byte(base.files[1].sha256)
    with pytest.raises(DataLoss, match="damaged"):
        await create(inference, base)
    twice = BaseModel(files=[base.files[0], base.files[0]])
    with pytest.raises(InvalidArgument, match="twice"):
        await create(inference, twice)


async def test_bytes_of_another_project_are_not_there(inference: Inference, snapshot: Path) -> None:
    base = await inference_files(inference, snapshot)  # stored for `library`
    request = CreateBaseModelRequest(
        parent="projects/acme", base_model=base, base_model_id="stolen"
    )
    with pytest.raises(FailedPrecondition) as caught:
        await inference.base_models("acme").CreateBaseModel(request)
    assert caught.value.reason == "BLOB_MISSING"


async def test_an_adapter_is_published_once_and_never_renamed(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot)
    wanted = await inference.adapter(lora, base)
    created = await publish(inference, wanted)
    assert created.name == "projects/acme/adapters/support-1"
    assert len(created.digest) == 64
    assert await publish(inference, wanted) == created, "the same manifest again changes nothing"
    suffix, metrics, rows = Adapter(), Adapter(), Adapter()
    for other in (suffix, metrics, rows):
        other.CopyFrom(wanted)
    suffix.suffix, metrics.metrics["loss"], rows.dataset_digest = "other", 0.5, "e" * 64
    for other in (suffix, metrics, rows):
        with pytest.raises(AlreadyExists, match="never given again"):
            await publish(inference, other)
    stub = inference.adapters("acme", Role.TUNER)
    assert await stub.GetAdapter(GetAdapterRequest(name=created.name)) == created
    listed = await stub.ListAdapters(ListAdaptersRequest(parent="projects/acme"))
    assert list(listed.adapters) == [created]


async def test_a_deleted_adapter_is_absent_and_its_name_stays_taken(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot)
    wanted = await inference.adapter(lora, base)
    name = (await publish(inference, wanted)).name
    stub = inference.adapters("acme", Role.TUNER)
    await stub.DeleteAdapter(DeleteAdapterRequest(name=name))
    never = name.replace("support-1", "never-was")
    for call, request in (
        (stub.GetAdapter, GetAdapterRequest),
        (stub.DeleteAdapter, DeleteAdapterRequest),
    ):
        errors = [await error_of(call(request(name=each))) for each in (name, never)]
        assert isinstance(errors[0], NotFound)
        assert errors[0].message.replace(name, never) == errors[1].message
    listed = await stub.ListAdapters(ListAdaptersRequest(parent="projects/acme"))
    assert not listed.adapters
    with pytest.raises(AlreadyExists):
        await publish(inference, wanted)
    with pytest.raises(NotFound) as absent:
        await inference.chat(name)
    assert absent.value.message.replace(name, never) == (await chat_error(inference, never)).message


async def error_of(call: object) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await call  # type: ignore[misc]
    return caught.value


async def chat_error(inference: Inference, model: str, project: str = "acme") -> PlatformError:
    return await error_of(inference.chat(model, project=project))


BAD_ADAPTERS = [
    ({"peft_type": "IA3"}, "peft_type LORA"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save.*merge it"),
    ({"use_dora": True}, "use_dora.*tune it again without DoRA"),
    ({"bias": "all"}, "bias none"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights.*path_initial_model"),
    ({"rank_pattern": {"(a+)+$": 3}}, "rank_pattern.*one rank"),
    ({"some_future_option": {"on": True}}, "some_future_option"),
]


@pytest.mark.parametrize(("change", "says"), BAD_ADAPTERS)
async def test_an_adapter_that_would_touch_more_than_itself_is_refused(
    inference: Inference, snapshot: Path, lora: Path, change: dict[str, object], says: str
) -> None:
    base = await inference.import_base(snapshot)
    (lora / "adapter_config.json").write_text(json.dumps({**LORA, **change}))
    with pytest.raises(InvalidArgument, match=says) as caught:
        await publish(inference, await inference.adapter(lora, base))
    assert caught.value.reason == "UNSUPPORTED_ADAPTER"
    assert caught.value.field == "adapter.files"


async def test_an_adapter_file_is_checked_like_a_base_models(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot)
    wanted = await inference.adapter(lora, base)
    (lora / "adapter_model.safetensors").write_bytes(safetensors_bytes({"lm_head": [2, 2]}))
    more = await inference.adapter(lora, base)
    with pytest.raises(InvalidArgument, match="more than LoRA"):
        await publish(inference, more)
    del more.files[1]
    with pytest.raises(InvalidArgument, match="is missing"):
        await publish(inference, more)
    inference.flip_byte(wanted.files[1].sha256)
    with pytest.raises(DataLoss, match="damaged"):
        await publish(inference, wanted)
    stub = inference.adapters()
    assert not (await stub.ListAdapters(ListAdaptersRequest(parent="projects/acme"))).adapters


async def test_a_base_in_several_files_has_the_layers_of_its_index(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    (snapshot / "model.safetensors").unlink()
    parts = {"model-1.safetensors": "model.q_proj.weight", "model-2.safetensors": "model.v.weight"}
    for path, name in {**parts, "consolidated.safetensors": "model.other.weight"}.items():
        (snapshot / path).write_bytes(safetensors_bytes({name: [3, 3]}))
    index = {"weight_map": {name: path for path, name in parts.items()}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    base = await inference.import_base(snapshot)
    for target, reason in (("q_proj", ""), ("other", "UNKNOWN_TARGET_MODULE")):
        names = {name.replace("q_proj", target): shape for name, shape in TENSORS.items()}
        (lora / "adapter_model.safetensors").write_bytes(safetensors_bytes(names))
        config = {**LORA, "target_modules": [target]}
        (lora / "adapter_config.json").write_text(json.dumps(config))
        publishing = publish(
            inference, await inference.adapter(lora, base), target.replace("_", "")
        )
        if reason:
            assert (await error_of(publishing)).reason == reason
        else:
            assert (await publishing).state == Adapter.READY


async def test_a_base_that_is_damaged_since_its_import_takes_no_adapters(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot)
    sha256 = {file.path: file.sha256 for file in base.files}["model.safetensors"]
    inference.flip_byte(sha256, position=9)  # within the header, which is all that is read
    with pytest.raises(DataLoss, match="is not what was imported") as caught:
        await publish(inference, await inference.adapter(lora, base))
    assert caught.value.reason == "BASE_MODEL_DAMAGED"


async def test_lists_are_narrowed_by_base_and_state(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    bases = [await inference.import_base(snapshot, name=name) for name in ("one", "two")]
    made = []
    for number, base in enumerate(bases * 2):
        wanted = await inference.adapter(lora, base)
        wanted.hold_reason = "a gate" if number > 1 else ""
        made.append((await publish(inference, wanted, f"a-{number}")).name)

    async def listed(**narrowed: Any) -> list[str]:
        request = ListAdaptersRequest(parent="projects/acme", order_by="create_time", **narrowed)
        page = await inference.adapters().ListAdapters(request)
        return [adapter.name for adapter in page.adapters]

    assert await listed() == made
    assert await listed(base_model=bases[1].name) == [made[1], made[3]]
    assert await listed(state=Adapter.HELD) == made[2:]
    assert await listed(state=Adapter.READY, base_model=bases[0].name) == made[:1]
    assert await listed(base_model="projects/acme/baseModels/none") == []
    request = ListAdaptersRequest(parent="projects/acme", page_size=1)
    token = (await inference.adapters().ListAdapters(request)).next_page_token
    request = ListAdaptersRequest(parent="projects/acme", page_token=token, state=Adapter.HELD)
    with pytest.raises(InvalidArgument):
        await inference.adapters().ListAdapters(request)


@pytest.mark.parametrize("method", ["PinAdapter", "UnpinAdapter", "UnloadAdapter"])
async def test_only_a_tuner_manages_memory_and_of_its_own_project(
    inference: Inference, snapshot: Path, lora: Path, method: str
) -> None:
    base = await inference.import_base(snapshot)
    name = (await publish(inference, await inference.adapter(lora, base))).name
    request = getattr(adapter_service_pb2, f"{method}Request")(name=name)
    with pytest.raises(PermissionDenied):
        await getattr(inference.adapters("acme", Role.USER), method)(request)
    with pytest.raises(NotFound):
        await getattr(inference.adapters("other", Role.TUNER), method)(request)


async def test_an_adapter_needs_exactly_its_base(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot)
    for field in ("base_model_digest", "tokenizer_digest"):
        wanted = await inference.adapter(lora, base)
        setattr(wanted, field, "0" * 64)
        with pytest.raises(FailedPrecondition, match="tuned on another"):
            await publish(inference, wanted)
    wanted = await inference.adapter(lora, base)
    wanted.training_job = "projects/other/trainingJobs/ftjob-1"
    with pytest.raises(NotFound):
        await publish(inference, wanted)
    private = await inference.import_base(snapshot, project="other")
    foreign = await inference.adapter(lora, private)
    absent = await inference.adapter(lora, private)
    absent.base_model = "projects/acme/baseModels/none"
    messages = [
        (await error_of(publish(inference, each))).message.replace(each.base_model, "X")
        for each in (foreign, absent)
    ]
    assert messages == ["X was not found"] * 2


async def test_a_base_model_stays_while_an_adapter_needs_it(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot)
    adapter = await publish(inference, await inference.adapter(lora, base))
    stub = inference.base_models("library")
    delete = DeleteBaseModelRequest(name=base.name)
    with pytest.raises(FailedPrecondition, match="needed by 1 adapters"):
        await stub.DeleteBaseModel(delete)
    await inference.adapters().DeleteAdapter(DeleteAdapterRequest(name=adapter.name))
    await stub.DeleteBaseModel(delete)
    with pytest.raises(NotFound):
        await stub.GetBaseModel(GetBaseModelRequest(name=base.name))


async def test_a_foreign_model_answers_like_an_absent_one(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot, project="other", name="private")
    theirs = await publish(inference, await inference.adapter(lora, base, "other"), project="other")
    for name in (base.name, theirs.name):
        error = await chat_error(inference, name)
        absent = name.replace(name.rpartition("/")[2], "no-such")
        assert isinstance(error, NotFound)
        assert error.message.replace(name, absent) == (await chat_error(inference, absent)).message
        mine = absent.replace("other", "acme")
        assert error.message.replace(name, mine) == (await chat_error(inference, mine)).message


async def test_only_the_operator_writes_base_models_and_only_services_adapters(
    inference: Inference, snapshot: Path, lora: Path
) -> None:
    base = await inference.import_base(snapshot)
    wanted = await inference.adapter(lora, base)
    request = CreateAdapterRequest(parent="projects/acme", adapter=wanted, adapter_id="a-1")
    with pytest.raises(PermissionDenied):
        await inference.adapters("acme", Role.OPERATOR).CreateAdapter(request)
    with pytest.raises(PermissionDenied):
        await inference.base_models("library", Role.ADMIN).DeleteBaseModel(
            DeleteBaseModelRequest(name=base.name)
        )


async def test_lists_come_in_pages(inference: Inference, snapshot: Path, lora: Path) -> None:
    base = await inference.import_base(snapshot)
    wanted = await inference.adapter(lora, base)
    names = [(await publish(inference, wanted, f"a-{n}")).name for n in range(5)]
    stub, seen, token = inference.adapters(), [], ""
    while True:
        page = await stub.ListAdapters(
            ListAdaptersRequest(
                parent="projects/acme", page_size=2, page_token=token, order_by="create_time"
            )
        )
        seen += [adapter.name for adapter in page.adapters]
        token = page.next_page_token
        if not token:
            break
    assert seen == names
    after = ListAdaptersRequest(parent="projects/acme", after=names[2], order_by="create_time")
    assert [each.name for each in (await stub.ListAdapters(after)).adapters] == names[3:]


async def test_every_fact_is_announced(inference: Inference, snapshot: Path, lora: Path) -> None:
    heard: list[tuple[str, str]] = []

    async def hear(event: Event) -> None:
        kinds = {
            kind.DESCRIPTOR.full_name: kind
            for kind in (
                events_pb2.BaseModelCreated,
                events_pb2.BaseModelDeleted,
                events_pb2.AdapterCreated,
                events_pb2.AdapterDeleted,
            )
        }
        fact: Any = event.parse(kinds[event.type])
        heard.append((event.subject, fact.name))

    base = await inference.import_base(snapshot)
    adapter = await publish(inference, await inference.adapter(lora, base))
    await inference.adapters().DeleteAdapter(DeleteAdapterRequest(name=adapter.name))
    await inference.base_models("library").DeleteBaseModel(DeleteBaseModelRequest(name=base.name))
    prefix = "luthier.inference.v1"
    expected = {
        (f"{prefix}.baseModels.library.tiny.created", base.name),
        (f"{prefix}.baseModels.library.tiny.deleted", base.name),
        (f"{prefix}.adapters.acme.support-1.created", adapter.name),
        (f"{prefix}.adapters.acme.support-1.deleted", adapter.name),
    }
    async with (
        open_nats(inference.nats_url, name="test") as nats,
        Subscription(nats.jetstream(), ["luthier.inference.>"], hear, durable="test"),
    ):
        # A record that changes quickly may be announced with its latest revision only.
        await eventually(lambda: {fact for fact in expected if "deleted" in fact[0]} <= set(heard))
    assert set(heard) <= expected


async def test_records_survive_in_the_journal(inference: Inference, snapshot: Path) -> None:
    base = await inference.import_base(snapshot)

    def journalled() -> bool:
        folder = inference.objects / "journal" / "inference"
        return any(base.digest in path.read_text() for path in folder.rglob("*.jsonl"))

    await eventually(journalled)
