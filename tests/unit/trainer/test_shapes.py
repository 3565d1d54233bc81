"""The shapes of training rows."""

from typing import Any

import pytest
from luthier_common.errors import InvalidArgument
from luthier_trainer.shapes import Shape, shape_of

PREFERENCE: dict[str, Any] = {
    "input": {"messages": [{"role": "user", "content": "Who?"}]},
    "preferred_output": [{"role": "assistant", "content": "Ann"}],
    "non_preferred_output": [{"role": "assistant", "content": "Bo"}],
}


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": []}, Shape.CHAT),
        ({"messages": [], "tools": [], "parallel_tool_calls": False}, Shape.CHAT),
        ({"text": "a"}, Shape.TEXT),
        ({"prompt": "a", "completion": "b"}, Shape.PAIR),
        ({"text": "c", "completion": "b", "prompt": "a"}, Shape.PAIR),
        ({"messages": [], "text": "c"}, Shape.CHAT),
        (PREFERENCE, Shape.PREFERENCE),
        ({"non_preferred_output": []}, Shape.PREFERENCE),
        ({**PREFERENCE, "text": "a"}, Shape.PREFERENCE),
    ],
)
def test_shapes_are_told_apart_by_their_keys(row: dict[str, Any], shape: Shape) -> None:
    assert shape_of(row) is shape


@pytest.mark.parametrize("row", [{}, {"prompt": "a"}, {"input": "a", "output": "b"}])
def test_other_rows_are_refused_with_the_shapes_that_are_known(row: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"`messages`, `prompt` with") as e:
        shape_of(row)
    assert e.value.reason == "UNKNOWN_ROWS"
