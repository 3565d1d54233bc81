"""Which rows of a file a job can learn from."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from luthier_common.errors import InvalidArgument
from luthier_trainer.preflight.rows import SAMPLE_ROWS, Survey, Teaching, survey

ANSWERS = Teaching(preference=False, encoder_decoder=False, has_chat_template=True)
SEQ2SEQ = Teaching(preference=False, encoder_decoder=True, has_chat_template=False)
DPO = Teaching(preference=True, encoder_decoder=False, has_chat_template=True)
BARE = Teaching(preference=False, encoder_decoder=False, has_chat_template=False)

SAID = [{"role": "assistant", "content": "yes"}]
CHAT = {"messages": [{"role": "user", "content": "no?"}, *SAID]}
TEXT = {"text": "one"}
PAIR = {"prompt": "one", "completion": "two"}
PREFERENCE = {"input": CHAT, "preferred_output": SAID, "non_preferred_output": SAID}


async def look(teaching: Teaching, *rows: Any, seed: int = 1) -> Survey:
    async def lines() -> AsyncIterator[bytes]:
        for row in rows:
            yield row if isinstance(row, bytes) else json.dumps(row).encode()

    return await survey(
        lines(), teaching, where="the file", request_field="training_job.training_file", seed=seed
    )


@pytest.mark.parametrize(
    ("teaching", "row"),
    [
        (ANSWERS, CHAT),
        (ANSWERS, TEXT),
        (ANSWERS, PAIR),
        (SEQ2SEQ, PAIR),
        (DPO, PREFERENCE),
        (BARE, TEXT),
        (BARE, PAIR),
    ],
)
async def test_rows_that_a_job_learns_from(teaching: Teaching, row: Any) -> None:
    found = await look(teaching, row, row)
    assert (found.accepted, found.refused, found.sample) == (2, 0, [row, row])


@pytest.mark.parametrize(
    ("teaching", "row", "reason"),
    [
        (ANSWERS, PREFERENCE, "PREFERENCE_ROWS"),
        (ANSWERS, {"other": 1}, "UNKNOWN_ROWS"),
        (SEQ2SEQ, TEXT, "SEQ2SEQ_NEEDS_PAIRS"),
        (SEQ2SEQ, CHAT, "SEQ2SEQ_NEEDS_PAIRS"),
        (DPO, CHAT, "NO_PREFERENCE_ROWS"),
        (BARE, CHAT, "CHAT_TEMPLATE_MISSING"),
    ],
)
async def test_a_file_whose_first_row_is_of_the_wrong_shape_is_refused(
    teaching: Teaching, row: Any, reason: str
) -> None:
    with pytest.raises(InvalidArgument, match="the file: its first row") as caught:
        await look(teaching, row, CHAT)
    assert caught.value.reason == reason
    assert caught.value.field == "training_job.training_file"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"{", "is not JSON"),
        ([1], "is not a JSON object"),
        ({"text": 1}, "`text` that is not a string"),
        ({"completion": "two"}, "without a `prompt`"),
        ({"messages": []}, "no messages in `messages`"),
        ({"messages": [{"content": "one"}]}, "not a message with a role"),
        ({"preferred_output": SAID, "non_preferred_output": SAID}, "no messages in `input`"),
        ({"input": CHAT, "preferred_output": SAID}, "only one of"),
        (PREFERENCE, "preference row"),
    ],
)
async def test_a_bad_row_is_told_with_its_line_and_the_others_are_learned(
    row: Any, why: str
) -> None:
    found = await look(ANSWERS, TEXT, b"", row, TEXT)
    assert (found.accepted, found.refused) == (2, 1)
    (refused,) = found.refused_rows
    assert refused.line == 3
    assert why in refused.reason


async def test_a_file_without_a_good_row_is_refused_with_the_first_reason() -> None:
    with pytest.raises(InvalidArgument, match=r"no row can be learned: is not JSON") as caught:
        await look(ANSWERS, b"{", b"}")
    assert caught.value.reason == "NO_ROWS_TO_LEARN"
    with pytest.raises(InvalidArgument, match=r"no row can be learned$"):
        await look(ANSWERS)


async def test_a_byte_order_mark_is_none_of_the_rows_business() -> None:
    found = await look(ANSWERS, b"\xef\xbb\xbf" + json.dumps(TEXT).encode())
    assert found.accepted == 1


async def test_of_many_rows_a_sample_is_drawn_that_only_the_seed_decides() -> None:
    rows = [{"text": str(number)} for number in range(3 * SAMPLE_ROWS)]
    found = await look(ANSWERS, *rows)
    assert found.accepted == len(rows)
    assert len(found.sample) == SAMPLE_ROWS
    numbers = [int(row["text"]) for row in found.sample]
    assert len(set(numbers)) == SAMPLE_ROWS
    assert sum(number >= 2 * SAMPLE_ROWS for number in numbers) > SAMPLE_ROWS / 5
    assert (await look(ANSWERS, *rows)).sample == found.sample
    assert (await look(ANSWERS, *rows, seed=2)).sample != found.sample


async def test_only_so_many_refused_rows_are_shown() -> None:
    found = await look(ANSWERS, TEXT, *[b"{"] * 50)
    assert found.refused == 50
    assert len(found.refused_rows) == 20
