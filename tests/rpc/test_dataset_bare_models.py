"""Datasets for base models without a chat template, encoder-decoders among them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.dataset_service_pb2 import CreateDatasetRequest, PreviewDatasetRequest
from luthier.dataset.v1.recipe_pb2 import (
    HeadingsRecipe,
    PairsRecipe,
    Recipe,
    RowsRecipe,
)
from luthier_common.errors import InvalidArgument

from tests.support.dataset_builds import DatasetBuilds
from tests.support.dataset_service import dataset_service, store
from tests.support.grpc_server import serving
from tests.support.nats_server import nats_server
from tests.support.scripted_inference import BASE_MODEL, ScriptedInference, import_base_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONTEXT = 16
"""Tokens, which are words."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def builds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DatasetBuilds]:
    folder = tmp_path_factory.mktemp("service")
    base = await import_base_model(store(folder))
    (words,) = [file for file in base.files if file.path == "tokenizer.json"]
    base.ClearField("files")
    base.files.append(words)
    base.context_tokens = CONTEXT
    model = ScriptedInference(base, lambda prompt: "nobody asks")
    async with (
        nats_server(folder) as nats,
        serving(*model.services()) as running,
        dataset_service(folder, nats.url, running.address, build_workers=1) as server,
    ):
        yield DatasetBuilds(server.client(), model)


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def pair(prompt: int, completion: int) -> dict[str, str]:
    """A row of so many words on each side."""
    return {"prompt": "why " * prompt, "completion": "so " * completion}


ALPACA = {"instruction": "Name the fee.", "input": "It is 4 %.", "output": "4 %"}
AS_PAIRS = Recipe(
    pairs=PairsRecipe(
        input_field="instruction",
        output_field="output",
        template="Do: {instruction}\n{input}\n",
        sequence_to_sequence=True,
    )
)
AS_THEY_ARE = Recipe(rows=RowsRecipe(sequence_to_sequence=True))


async def test_columns_become_pairs(builds: DatasetBuilds) -> None:
    built = await builds.build({"alpaca.jsonl": lines(ALPACA)}, AS_PAIRS)
    assert built.lines == [{"prompt": "Do: Name the fee.\nIt is 4 %.\n", "completion": "4 %"}]
    assert [row.token_count for row in built.rows] == [10]


async def test_recipes_that_make_conversations_are_refused(builds: DatasetBuilds) -> None:
    file = await builds.client.upload(b"# Leave\n\nEveryone gets 24 days.", "leave.md")
    draft = Dataset(
        source_files=[file.name],
        recipes=[Recipe(headings=HeadingsRecipe())],
        base_model=BASE_MODEL,
    )
    calls: list[Any] = [
        builds.client.datasets.CreateDataset(
            CreateDatasetRequest(parent="projects/acme", dataset=draft)
        ),
        builds.client.datasets.PreviewDataset(
            PreviewDatasetRequest(parent="projects/acme", dataset=draft)
        ),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match="no chat template") as caught:
            await call
        assert caught.value.field == "dataset.recipes[0]"


async def test_an_encoder_decoder_has_a_context_for_each_side_and_reads_no_conversations(
    builds: DatasetBuilds,
) -> None:
    talk = {
        "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]
    }
    fitting, beyond = pair(CONTEXT, CONTEXT), (pair(CONTEXT + 1, 1), pair(1, CONTEXT + 1))
    builds.model.base_model.architecture = "T5ForConditionalGeneration"
    built = await builds.build({"rows.jsonl": lines(fitting, *beyond, talk)}, AS_THEY_ARE)
    assert built.lines == [fitting]
    assert built.dropped == {"over_long": 2, "chat_template_missing": 1}
