"""The services behind the gateway, in memory: real protos over real gRPC, scripted behaviour."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from luthier.dataset.v1 import (
    dataset_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    file_pb2,
    file_service_pb2,
    file_service_pb2_grpc,
    quality_pb2,
    upload_pb2,
    upload_service_pb2,
    upload_service_pb2_grpc,
)
from luthier.inference.v1 import (
    adapter_pb2,
    adapter_service_pb2,
    adapter_service_pb2_grpc,
    base_model_pb2,
    base_model_service_pb2,
    base_model_service_pb2_grpc,
    generation_pb2,
    generation_service_pb2,
    generation_service_pb2_grpc,
)
from luthier.trainer.v1 import (
    preflight_pb2,
    training_job_pb2,
    training_job_service_pb2,
    training_job_service_pb2_grpc,
)
from luthier_common.errors import (
    FailedPrecondition,
    InvalidArgument,
    PlatformError,
    not_found,
)
from luthier_common.identity import LIBRARY, current_identity
from luthier_common.logs import request_id
from luthier_common.names import new_id, parent_of, project_of

from tests.support.grpc_server import Service, Serving, serving

M = TypeVar("M", bound=Message)
BASE_DIGEST = "b" * 64
ADAPTER_DIGEST = "a" * 64


class Shelf(dict[str, M]):
    """Named messages, oldest first."""

    clock = 1_700_000_000

    def put(self, name: str, message: M) -> M:
        Shelf.clock += 1
        message.name = name  # type: ignore[attr-defined]
        message.create_time.seconds = Shelf.clock  # type: ignore[attr-defined]
        self[name] = message
        return message

    def take(self, name: str) -> M:
        if name not in self:
            raise not_found(name)
        return self[name]

    def take_part(self, name: str) -> M:
        """What a singleton belongs to."""
        owner = self.get(name.rpartition("/")[0])
        if owner is None:
            raise not_found(name)
        return owner

    def page(self, request: Any, default: int) -> tuple[list[M], str]:
        found = [name for name in self if parent_of(name) == request.parent]
        if getattr(request, "order_by", "") != "create_time":
            found.reverse()
        start = request.page_token or getattr(request, "after", "")
        if start:
            if start not in found:
                raise InvalidArgument("no item", reason="INVALID_AFTER", field="after")
            found = found[found.index(start) + 1 :]
        size = request.page_size or default
        token = found[size - 1] if len(found) > size else ""
        return [self[name] for name in found[:size]], token


@dataclass
class Owners:
    """What the services hold, what they were asked, and what they shall fail with."""

    files: Shelf[file_pb2.File] = field(default_factory=Shelf)
    contents: dict[str, bytes] = field(default_factory=dict)
    uploads: Shelf[upload_pb2.Upload] = field(default_factory=Shelf)
    parts: dict[str, bytes] = field(default_factory=dict)  # by name
    datasets: Shelf[dataset_pb2.Dataset] = field(default_factory=Shelf)
    dependents: list[str] = field(default_factory=list)  # of whatever is deleted
    report: quality_pb2.QualityReport = field(default_factory=quality_pb2.QualityReport)
    rows: list[dataset_pb2.DatasetRow] = field(default_factory=list)  # of every dataset
    jobs: Shelf[training_job_pb2.TrainingJob] = field(default_factory=Shelf)
    events: Shelf[training_job_pb2.TrainingJobEvent] = field(default_factory=Shelf)
    preflight: preflight_pb2.Preflight = field(default_factory=preflight_pb2.Preflight)
    """Of a job that is only to be checked."""
    base_models: Shelf[base_model_pb2.BaseModel] = field(default_factory=Shelf)
    adapters: Shelf[adapter_pb2.Adapter] = field(default_factory=Shelf)
    requests: list[Message] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    failure: PlatformError | None = None  # of every call
    failures: dict[type[Message], PlatformError] = field(default_factory=dict)  # by request
    # Its pieces; `{text}` is the prompt of a completion, `{index}` which of the answers it is.
    answer: Sequence[str] = ("Hel", "lo")
    tokens: Sequence[
        generation_pb2.Token
    ] = ()  # of the pieces, where they are not told as they are
    tool_calls: Sequence[generation_pb2.ToolCall] = ()  # of every answer
    cached_prompt_tokens: int = 0
    base_digest: str = BASE_DIGEST  # that answers say
    refused_text: str = ""  # of those to embed
    break_after: PlatformError | None = None
    arrived: int = 0
    """Bytes of the upload that is coming in."""
    refusal: PlatformError | None = None
    """How an upload is refused as soon as it has `bad` in it."""
    hang: asyncio.Event | None = None
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    writing: int = 0  # answers that hang
    # How answers end; None: without a word.
    finish: generation_pb2.Finish.FinishReason | None = generation_pb2.Finish.STOP

    def reset(self) -> None:
        """Forget everything; the library has one model."""
        fresh = Owners()
        for one in fields(self):
            setattr(self, one.name, getattr(fresh, one.name))
        self.add_model("luthier-starter")

    def served(self, request: Message, context: Any) -> None:
        caller = current_identity()
        self.requests.append(request)
        self.callers.append(f"{caller.project} {caller.role.name} {caller.subject}")
        self.deadlines.append(context.time_remaining())
        self.request_ids.append(request_id.get() or "")
        failure = self.failures.get(type(request), self.failure)
        if failure is not None:
            raise failure

    def last(self, kind: type[M]) -> M:
        found = [request for request in self.requests if isinstance(request, kind)]
        assert found, f"no {kind.__name__} arrived"
        return found[-1]

    def add_model(self, model_id: str, project: str = "library") -> base_model_pb2.BaseModel:
        name = f"projects/{project}/baseModels/{model_id}"
        return self.base_models.put(name, base_model_pb2.BaseModel(digest=BASE_DIGEST))

    def add_adapter(
        self, adapter_id: str, project: str = "default", suffix: str = "support"
    ) -> adapter_pb2.Adapter:
        adapter = adapter_pb2.Adapter(
            base_model="projects/library/baseModels/luthier-starter",
            suffix=suffix,
            digest=ADAPTER_DIGEST,
        )
        return self.adapters.put(f"projects/{project}/adapters/{adapter_id}", adapter)

    def add_file(
        self, file_id: str, data: bytes = b"{}\n", project: str = "default", **values: Any
    ) -> file_pb2.File:
        name = f"projects/{project}/files/{file_id}"
        self.contents[name] = data
        given: dict[str, Any] = {
            "display_name": "rows.jsonl",
            "purpose": file_pb2.File.FINE_TUNE,
        } | values
        return self.files.put(name, file_pb2.File(size_bytes=len(data), **given))

    def add_upload(
        self, upload_id: str, project: str = "default", **values: Any
    ) -> upload_pb2.Upload:
        given: dict[str, Any] = {
            "display_name": "book.pdf",
            "purpose": file_pb2.File.USER_DATA,
            "size_bytes": 6,
            "state": upload_pb2.Upload.PENDING,
        }
        upload = upload_pb2.Upload(**(given | values))
        self.uploads.put(f"projects/{project}/uploads/{upload_id}", upload)
        upload.expire_time.seconds = upload.create_time.seconds + 3600
        return upload

    def add_dataset(
        self, dataset_id: str, project: str = "default", **values: Any
    ) -> dataset_pb2.Dataset:
        given: dict[str, Any] = {
            "base_model": "projects/library/baseModels/luthier-starter",
            "source_files": [f"projects/{project}/files/file-handbook"],
        }
        dataset = dataset_pb2.Dataset(**(given | values))
        return self.datasets.put(f"projects/{project}/datasets/{dataset_id}", dataset)

    def add_event(self, job: str, number: int, **values: Any) -> training_job_pb2.TrainingJobEvent:
        event = training_job_pb2.TrainingJobEvent(**values)
        return self.events.put(f"{job}/events/{number}", event)

    def add_job(
        self, job_id: str, project: str = "default", **fields: Any
    ) -> training_job_pb2.TrainingJob:
        values: dict[str, Any] = {
            "base_model": "projects/library/baseModels/luthier-starter",
            "training_file": f"projects/{project}/files/file-rows",
            "state": training_job_pb2.TrainingJob.QUEUED,
            "seed": 7,
        }
        job = training_job_pb2.TrainingJob(**(values | fields))
        return self.jobs.put(f"projects/{project}/trainingJobs/{job_id}", job)


class _Servicer:
    def __init__(self, owners: Owners) -> None:
        self._owners = owners


class _Files(_Servicer, file_service_pb2_grpc.FileServiceServicer):
    async def CreateFile(self, request_iterator: Any, context: Any) -> file_pb2.File:
        first = await anext(request_iterator)
        self._owners.served(first, context)
        data, request = first.chunk, first
        async for request in request_iterator:
            data += request.chunk
            self._owners.arrived = len(data)
            if self._owners.refusal and b"bad" in data:
                raise self._owners.refusal
        if not request.last:
            raise InvalidArgument("it breaks off", reason="STREAM_BROKEN_OFF", field="last")
        name = f"{first.parent}/files/{first.file_id or new_id('file')}"
        file = file_pb2.File(
            display_name=first.file.display_name,
            purpose=first.file.purpose,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        self._owners.contents[name] = data
        return self._owners.files.put(name, file)

    async def GetFile(self, request: Any, context: Any) -> file_pb2.File:
        self._owners.served(request, context)
        return self._owners.files.take(request.name)

    async def ListFiles(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        wanted = Shelf(
            (name, file)
            for name, file in self._owners.files.items()
            if not request.purpose or file.purpose == request.purpose
        )
        files, token = wanted.page(request, 100)
        return file_service_pb2.ListFilesResponse(files=files, next_page_token=token)

    async def DeleteFile(self, request: Any, context: Any) -> file_pb2.File:
        self._owners.served(request, context)
        self._owners.files.take(request.name)
        tombstone = self._owners.files.pop(request.name)
        tombstone.dependents.extend(self._owners.dependents)
        return tombstone

    async def DownloadFile(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._owners.served(request, context)
        data = self._owners.contents[self._owners.files.take(request.name).name]
        for at in range(0, len(data), 100_000):
            yield file_service_pb2.DownloadFileResponse(chunk=data[at : at + 100_000])
            if self._owners.break_after is not None:
                raise self._owners.break_after


class _Uploads(_Servicer, upload_service_pb2_grpc.UploadServiceServicer):
    async def CreateUpload(self, request: Any, context: Any) -> upload_pb2.Upload:
        self._owners.served(request, context)
        given = request.upload
        upload = self._owners.add_upload(
            new_id("upload"),
            project_of(request.parent),
            display_name=given.display_name,
            purpose=given.purpose,
            size_bytes=given.size_bytes,
            mime_type=given.mime_type,
            direct=given.direct,
        )
        shown = upload_pb2.Upload()
        shown.CopyFrom(upload)
        if given.direct:
            shown.put_url = "https://objects.example.com/here"
        return shown

    async def GetUpload(self, request: Any, context: Any) -> upload_pb2.Upload:
        self._owners.served(request, context)
        shown = upload_pb2.Upload()
        shown.CopyFrom(self._owners.uploads.take(request.name))
        shown.parts.extend(
            self._part(name) for name in self._owners.parts if parent_of(name) == request.name
        )
        return shown

    async def ListUploads(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        uploads, token = self._owners.uploads.page(request, 100)
        return upload_service_pb2.ListUploadsResponse(uploads=uploads, next_page_token=token)

    async def AddUploadPart(self, request_iterator: Any, context: Any) -> upload_pb2.UploadPart:
        first = await anext(request_iterator)
        self._owners.served(first, context)
        upload = self._pending(first.parent)
        data = b"".join([first.chunk, *[request.chunk async for request in request_iterator]])
        name = f"{upload.name}/parts/{new_id('part')}"
        self._owners.parts[name] = data
        return self._part(name)

    async def CompleteUpload(self, request: Any, context: Any) -> upload_pb2.Upload:
        self._owners.served(request, context)
        upload = self._pending(request.name)
        data = b"".join(self._owners.parts[name] for name in request.parts)
        file_id = new_id("file")
        file = self._owners.add_file(
            file_id,
            data,
            project_of(upload.name),
            display_name=upload.display_name,
            purpose=upload.purpose,
        )
        upload.state, upload.file = upload_pb2.Upload.COMPLETED, file.name
        return upload

    async def CancelUpload(self, request: Any, context: Any) -> upload_pb2.Upload:
        self._owners.served(request, context)
        upload = self._pending(request.name)
        upload.state = upload_pb2.Upload.CANCELLED
        return upload

    def _pending(self, name: str) -> upload_pb2.Upload:
        upload = self._owners.uploads.take(name)
        if upload.state != upload_pb2.Upload.PENDING:
            state = upload_pb2.Upload.State.Name(upload.state)
            raise FailedPrecondition(f"{name} is {state}", reason=f"UPLOAD_{state}")
        return upload

    def _part(self, name: str) -> upload_pb2.UploadPart:
        data = self._owners.parts[name]
        sha256 = hashlib.sha256(data).hexdigest()
        part = upload_pb2.UploadPart(name=name, size_bytes=len(data), sha256=sha256)
        part.create_time.seconds = Shelf.clock
        return part


class _Datasets(_Servicer, dataset_service_pb2_grpc.DatasetServiceServicer):
    async def CreateDataset(self, request: Any, context: Any) -> dataset_pb2.Dataset:
        self._owners.served(request, context)
        name = f"{request.parent}/datasets/{request.dataset_id or new_id('dataset')}"
        dataset: dataset_pb2.Dataset = request.dataset
        dataset.state = dataset_pb2.Dataset.BUILDING
        return dataset if request.validate_only else self._owners.datasets.put(name, dataset)

    async def GetDataset(self, request: Any, context: Any) -> dataset_pb2.Dataset:
        self._owners.served(request, context)
        return self._owners.datasets.take(request.name)

    async def ListDatasets(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        datasets, token = self._owners.datasets.page(request, 100)
        return dataset_service_pb2.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    async def DeleteDataset(self, request: Any, context: Any) -> dataset_pb2.Dataset:
        self._owners.served(request, context)
        self._owners.datasets.take(request.name)
        tombstone = self._owners.datasets.pop(request.name)
        tombstone.dependents.extend(self._owners.dependents)
        return tombstone

    async def PreviewDataset(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        return dataset_service_pb2.PreviewDatasetResponse(
            rows=self._owners.rows[: request.page_size],
            dropped_by_reason={"too short": 2},
            estimate=dataset_service_pb2.DatasetEstimate(
                rows=40, tokens=400, model_calls=8, model_tokens=80, read_share=0.25
            ),
        )

    async def GetQualityReport(self, request: Any, context: Any) -> quality_pb2.QualityReport:
        self._owners.served(request, context)
        self._owners.datasets.take_part(request.name)
        return self._owners.report

    async def GetManifest(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        self._owners.datasets.take_part(request.name)
        return dataset_service_pb2.Manifest(json='{"schema": 1,  "rows": 3}')

    async def ListDatasetRows(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        self._owners.datasets.take(request.parent)
        wanted = [
            row
            for row in self._owners.rows
            if request.source_file in ("", *(one.source_file for one in row.origins))
        ]
        start = int(request.page_token or 0)
        end = start + (request.page_size or 20)
        token = str(end) if end < len(wanted) else ""
        return dataset_service_pb2.ListDatasetRowsResponse(
            rows=wanted[start:end], next_page_token=token
        )


class _Jobs(_Servicer, training_job_service_pb2_grpc.TrainingJobServiceServicer):
    async def CreateTrainingJob(self, request: Any, context: Any) -> training_job_pb2.TrainingJob:
        self._owners.served(request, context)
        name = f"{request.parent}/trainingJobs/{request.training_job_id or new_id('ftjob')}"
        job: training_job_pb2.TrainingJob = request.training_job
        job.state = training_job_pb2.TrainingJob.VALIDATING
        if not job.HasField("seed"):
            job.seed = 42
        if request.validate_only:
            job.name = name
            job.preflight.CopyFrom(self._owners.preflight)
            return job
        return self._owners.jobs.put(name, job)

    async def GetTrainingJob(self, request: Any, context: Any) -> training_job_pb2.TrainingJob:
        self._owners.served(request, context)
        return self._owners.jobs.take(request.name)

    async def ListTrainingJobs(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        jobs, token = self._owners.jobs.page(request, 20)
        return training_job_service_pb2.ListTrainingJobsResponse(
            training_jobs=jobs, next_page_token=token
        )

    async def CancelTrainingJob(self, request: Any, context: Any) -> training_job_pb2.TrainingJob:
        return self._moved(request, context, training_job_pb2.TrainingJob.CANCELLING)

    async def PauseTrainingJob(self, request: Any, context: Any) -> training_job_pb2.TrainingJob:
        return self._moved(request, context, training_job_pb2.TrainingJob.PAUSING)

    async def ResumeTrainingJob(self, request: Any, context: Any) -> training_job_pb2.TrainingJob:
        return self._moved(request, context, training_job_pb2.TrainingJob.QUEUED)

    def _moved(
        self, request: Any, context: Any, state: training_job_pb2.TrainingJob.State
    ) -> training_job_pb2.TrainingJob:
        self._owners.served(request, context)
        job: training_job_pb2.TrainingJob = self._owners.jobs.take(request.name)
        job.state = state
        return job

    async def ListTrainingJobEvents(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        self._owners.jobs.take(request.parent)
        events, token = self._owners.events.page(request, 20)
        return training_job_service_pb2.ListTrainingJobEventsResponse(
            training_job_events=events, next_page_token=token
        )


class _BaseModels(_Servicer, base_model_service_pb2_grpc.BaseModelServiceServicer):
    async def CreateBaseModel(self, request: Any, context: Any) -> base_model_pb2.BaseModel:
        self._owners.served(request, context)
        name = f"{request.parent}/baseModels/{request.base_model_id}"
        return self._owners.base_models.put(name, request.base_model)

    async def GetBaseModel(self, request: Any, context: Any) -> base_model_pb2.BaseModel:
        self._owners.served(request, context)
        return self._owners.base_models.take(request.name)

    async def ListBaseModels(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        models, token = self._owners.base_models.page(request, 100)
        return base_model_service_pb2.ListBaseModelsResponse(
            base_models=models, next_page_token=token
        )

    async def DeleteBaseModel(self, request: Any, context: Any) -> Empty:
        self._owners.served(request, context)
        self._owners.base_models.take(request.name)
        del self._owners.base_models[request.name]
        return Empty()


class _Adapters(_Servicer, adapter_service_pb2_grpc.AdapterServiceServicer):
    async def CreateAdapter(self, request: Any, context: Any) -> adapter_pb2.Adapter:
        raise AssertionError("no public method")

    async def GetAdapter(self, request: Any, context: Any) -> adapter_pb2.Adapter:
        self._owners.served(request, context)
        return self._owners.adapters.take(request.name)

    async def ListAdapters(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        adapters, token = self._owners.adapters.page(request, 100)
        return adapter_service_pb2.ListAdaptersResponse(adapters=adapters, next_page_token=token)

    async def GetAdapterLineage(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        adapter = self._owners.adapters.take(request.name)
        ancestor = adapter_pb2.Ancestor(name=adapter.name, digest=adapter.digest)
        return adapter_pb2.AdapterLineage(adapter=ancestor)

    async def PinAdapter(self, request: Any, context: Any) -> adapter_pb2.Adapter:
        self._owners.served(request, context)
        adapter = self._owners.adapters.take(request.name)
        adapter.pinned = True
        return adapter

    async def UnpinAdapter(self, request: Any, context: Any) -> adapter_pb2.Adapter:
        self._owners.served(request, context)
        adapter = self._owners.adapters.take(request.name)
        adapter.pinned = False
        return adapter

    async def UnloadAdapter(self, request: Any, context: Any) -> adapter_pb2.Adapter:
        self._owners.served(request, context)
        return self._owners.adapters.take(request.name)

    async def DeleteAdapter(self, request: Any, context: Any) -> Empty:
        self._owners.served(request, context)
        self._owners.adapters.take(request.name)
        del self._owners.adapters[request.name]
        return Empty()


class _Generation(_Servicer, generation_service_pb2_grpc.GenerationServiceServicer):
    async def Chat(self, request: Any, context: Any) -> Any:
        return await self._whole(request, context, generation_service_pb2.ChatResponse)

    async def StreamChat(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for piece in self._pieces(request, context):
            yield generation_service_pb2.StreamChatResponse(**piece)

    async def Complete(self, request: Any, context: Any) -> Any:
        return await self._whole(request, context, generation_service_pb2.CompleteResponse)

    async def StreamComplete(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for piece in self._pieces(request, context):
            yield generation_service_pb2.StreamCompleteResponse(**piece)

    async def Embed(self, request: Any, context: Any) -> Any:
        self._owners.served(request, context)
        if self._owners.refused_text in request.texts:
            field = f"texts[{list(request.texts).index(self._owners.refused_text)}]"
            raise InvalidArgument(f"{field} is too long", reason="TEXT_TOO_LONG", field=field)
        vectors = [
            generation_pb2.Embedding(values=[len(text), 1 / 3, -0.5], token_count=len(text.split()))
            for text in request.texts
        ]
        await self._hang()
        return generation_service_pb2.EmbedResponse(embeddings=vectors, **self._who(request))

    async def _whole(self, request: Any, context: Any, kind: type[M]) -> M:
        count = request.sampling.answer_count or 1
        answers = [generation_service_pb2.Answer() for _ in range(count)]
        async for piece in self._pieces(request, context):
            answer = answers[piece["answer_index"]]
            answer.text += piece.get("text", "")
            answer.tokens.extend(piece.get("tokens", ()))
            if "finish" in piece:
                answer.finish.CopyFrom(piece["finish"])
        return kind(answers=answers, **self._who(request))

    async def _pieces(self, request: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        owners = self._owners
        owners.served(request, context)
        who = self._who(request)
        count = request.sampling.answer_count or 1
        for place, text in enumerate(owners.answer):
            for index in range(count):
                piece = self._piece(request, place, text, index)
                yield {"answer_index": index} | piece | who
        if owners.break_after is not None:
            raise owners.break_after
        await self._hang()
        if owners.finish is None:
            return
        called = generation_pb2.Finish.TOOL_CALLS if owners.tool_calls else owners.finish
        for index in reversed(range(count)):
            finish = generation_pb2.Finish(
                reason=called,
                prompt_tokens=5,
                completion_tokens=len(owners.answer),
                cached_prompt_tokens=owners.cached_prompt_tokens,
                tool_calls=owners.tool_calls,
            )
            yield {"answer_index": index, "finish": finish} | who

    def _piece(self, request: Any, place: int, text: str, index: int) -> dict[str, Any]:
        """A piece, which is one token unless `tokens` has another; `B` is its alternative."""
        text = text.replace("{text}", getattr(request, "text", "")).replace("{index}", str(index))
        if not request.sampling.logprobs:
            return {"text": text}
        token = generation_pb2.Token(id=place, text=text.encode(), logprob=-(place + 1) / 4)
        others = [token, generation_pb2.Token(id=99, text=b"B", logprob=-9)]
        if self._owners.tokens:
            token = self._owners.tokens[place]
        else:
            token.top.extend(others[: request.sampling.top_logprobs])
        return {"text": text, "tokens": [token]}

    async def _hang(self) -> None:
        if self._owners.hang is None:
            return
        self._owners.writing += 1
        try:
            await self._owners.hang.wait()
        finally:
            self._owners.writing -= 1
            self._owners.hung_up.set()

    def _who(self, request: Any) -> dict[str, str]:
        """Who answers; NotFound."""
        owners = self._owners
        tuned = "/adapters/" in request.model
        shelf: Shelf[Any] = owners.adapters if tuned else owners.base_models
        if project_of(request.model) not in (LIBRARY, current_identity().project):
            raise not_found(request.model)
        shelf.take(request.model)
        return {
            "base_model_digest": owners.base_digest,
            "adapter_digest": ADAPTER_DIGEST if tuned else "",
        }


_SERVICES: list[tuple[type[_Servicer], Any, Any]] = [
    (_Files, file_service_pb2, file_service_pb2_grpc),
    (_Uploads, upload_service_pb2, upload_service_pb2_grpc),
    (_Datasets, dataset_service_pb2, dataset_service_pb2_grpc),
    (_Jobs, training_job_service_pb2, training_job_service_pb2_grpc),
    (_BaseModels, base_model_service_pb2, base_model_service_pb2_grpc),
    (_Adapters, adapter_service_pb2, adapter_service_pb2_grpc),
    (_Generation, generation_service_pb2, generation_service_pb2_grpc),
]


def _services(owners: Owners) -> Iterator[Service]:
    for servicer, messages, stubs in _SERVICES:
        (descriptor,) = messages.DESCRIPTOR.services_by_name.values()
        adder = getattr(stubs, f"add_{descriptor.name}Servicer_to_server")
        yield servicer(owners), adder, descriptor


@asynccontextmanager
async def scripted_owners() -> AsyncIterator[tuple[Owners, Serving]]:
    """Serve all of them on one port."""
    owners = Owners()
    owners.reset()
    async with serving(*_services(owners)) as server:
        yield owners, server
