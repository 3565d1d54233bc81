import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from luthier_dataset.readers.items import Place
from luthier_dataset.recipes.recipe import Origin, Passage
from luthier_dataset.search import Index, build_index

from tests.support.scripted_tools import index_of

TEXTS = [
    "Staff get 24 days of annual leave.",
    "The café opens at eight.",
    "Leave is requested from the manager; leave of more than ten days needs the director.",
    "Servers are kept cool.",
    "The café opens at eight.",
]


def passage(text: str, number: int) -> Passage:
    return Passage(
        text, Origin(f"files/{number}", ("Büro", "B"), Place(page=number, start=1, end=2))
    )


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return index_of(tmp_path / "index", [passage(text, n) for n, text in enumerate(TEXTS)])


def test_the_best_passage_comes_first_with_its_origin(index: Index) -> None:
    found = index.search("Who gets annual leave?", 5)
    assert found == [passage(TEXTS[0], 0), passage(TEXTS[2], 2)]


def test_no_more_than_asked_for_are_found(index: Index) -> None:
    assert [found.text for found in index.search("leave", 1)] == [TEXTS[2]]


def test_of_equals_the_earlier_comes_first(index: Index) -> None:
    assert [found.origin.file for found in index.search("cafe", 5)] == ["files/1", "files/4"]


def test_stop_words_alone_are_searched_for(index: Index) -> None:
    assert [found.origin.file for found in index.search("at the", 5)][:2] == ["files/1", "files/4"]


@pytest.mark.parametrize("query", ["", "?!", "🙂"])
def test_nothing_is_found_for_no_words(index: Index, query: str) -> None:
    assert index.search(query, 5) == []


def test_a_long_query_is_searched_by_its_first_terms(index: Index) -> None:
    filler = " ".join(f"filler{n}" for n in range(32))
    assert index.search(f"{filler} servers", 5) == []
    assert len(index.search(f"servers {filler}", 5)) == 1


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text() | st.sampled_from(['"', "a OR b*", "text : x", "NEAR(a b)", "-leave", "^", "a\\0b"])
)
def test_any_query_is_plain_words(index: Index, query: str) -> None:
    assert len(index.search(query, 3)) <= 3


def test_building_counts_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "an index?#"
    assert build_index(path, []) == 0
    assert Index(path).search("leave", 3) == []
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        build_index(path, [])
    groups = [("x", passage("red stone", 0)), ("y", passage("red wood", 1))]
    assert build_index(tmp_path / "two", groups) == 2
    index = Index(tmp_path / "two")
    assert [found.text for found in index.search("red", 5)] == ["red stone", "red wood"]
    assert [found.text for found in index.search("red", 5, "y")] == ["red wood"]
    assert index.search("red", 5, "z") == []


def test_an_index_is_read_only(index: Index) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        index._connection.execute("DELETE FROM passages")
    index.close()
    with pytest.raises(sqlite3.ProgrammingError):
        index.search("leave", 1)
