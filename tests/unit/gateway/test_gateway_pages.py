from collections.abc import Callable

import pytest
from luthier_gateway.openai.merged import merged
from luthier_gateway.openai.pages import Fetch, gather, page


def owner(total: int, *, most: int = 1000) -> tuple[Fetch[int], list[int]]:
    """Return a fetch of the numbers below `total`, and the sizes it is asked for."""
    sizes: list[int] = []

    async def fetch(size: int, token: str) -> tuple[list[int], str]:
        sizes.append(size)
        start = int(token or 0)
        end = min(start + min(size, most), total)
        return list(range(start, end)), str(end) if end < total else ""

    return fetch, sizes


@pytest.mark.parametrize(
    ("total", "limit", "count", "more"),
    [(0, 5, 0, False), (4, 5, 4, False), (5, 5, 5, False), (6, 5, 5, True), (9, 1, 1, True)],
)
@pytest.mark.parametrize("most", [1, 2, 1000])
async def test_a_page_knows_whether_there_is_more(
    total: int, limit: int, count: int, more: bool, most: int
) -> None:
    fetch, _ = owner(total, most=most)
    assert await gather(fetch, limit) == (list(range(count)), more)


@pytest.mark.parametrize(
    ("keep", "wanted"),
    [(lambda n: n % 7 == 0, [0, 7, 14]), (lambda n: n > 47, [48, 49]), (lambda n: n < 0, [])],
)
async def test_what_is_not_wanted_does_not_count(
    keep: Callable[[int], bool], wanted: list[int]
) -> None:
    fetch, _ = owner(50)
    found, more = await gather(fetch, 3, keep=keep)
    assert found == wanted
    assert more == (wanted == [0, 7, 14])


async def test_an_owner_is_never_asked_for_more_than_a_message_holds() -> None:
    fetch, sizes = owner(2500)
    found, more = await gather(fetch, 10_000)
    assert (len(found), more) == (2500, False)
    assert max(sizes) == 1000


def test_a_page_names_its_ends() -> None:
    data = [{"id": "a"}, {"id": "b"}]
    assert page(data, True) == {
        "object": "list",
        "data": data,
        "has_more": True,
        "first_id": "a",
        "last_id": "b",
    }
    empty = page([])
    assert (empty["first_id"], empty["last_id"], empty["has_more"]) == (None, None, False)


class Pieces:
    """A stream that knows whether it was closed."""

    def __init__(self, *pieces: str, fails: bool = False) -> None:
        self._pieces = list(pieces)
        self._fails = fails
        self.closed = False

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> str:
        if self._pieces:
            return self._pieces.pop(0)
        if self._fails:
            raise ValueError("broken")
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


async def test_streams_are_merged_in_their_own_order() -> None:
    streams = [Pieces("a", "b"), Pieces(), Pieces("c")]
    found = [item async for item in merged(streams)]
    assert [piece for index, piece in found if index == 0] == ["a", "b"]
    assert sorted(found) == [(0, "a"), (0, "b"), (2, "c")]
    assert all(stream.closed for stream in streams)


async def test_the_first_failure_ends_all_streams() -> None:
    endless, broken = Pieces(*"x" * 10_000), Pieces(fails=True)
    with pytest.raises(ValueError, match="broken"):
        _ = [item async for item in merged([endless, broken])]
    assert endless.closed
    assert broken.closed


async def test_closing_the_merger_closes_the_streams() -> None:
    streams = [Pieces(*"x" * 10_000), Pieces(*"y" * 10_000)]
    merger = merged(streams)
    await anext(merger)
    await merger.aclose()
    assert all(stream.closed for stream in streams)
