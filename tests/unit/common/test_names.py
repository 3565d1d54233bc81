import pytest
from luthier_common.errors import InvalidArgument
from luthier_common.names import (
    check_id,
    format_name,
    id_of,
    new_id,
    parent_of,
    parse,
    project_of,
)

PATTERN = "projects/{project}/files/{file}"


def test_a_name_is_taken_apart_and_put_together() -> None:
    name = "projects/acme/files/file-1"
    assert parse(name, PATTERN) == {"project": "acme", "file": "file-1"}
    assert format_name(PATTERN, project="acme", file="file-1") == name
    assert (project_of(name), parent_of(name), id_of(name)) == ("acme", "projects/acme", "file-1")


def test_an_event_is_numbered() -> None:
    pattern = "projects/{project}/trainingJobs/{job}/events/{event}"
    assert parse("projects/p/trainingJobs/j/events/12", pattern)["event"] == "12"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "projects/acme",
        "projects/acme/files/",
        "projects/acme/jobs/x",
        "projects/acme/files/x/y",
        "projects/acme/files/UPPER",
        "projects/acme/files/a.b",
        "projects/acme/files/*",
        "projects/>/files/x",
        "projects/acme/files/x-",
        "projects/acme/files/x\n",
        "/projects/acme/files/x",
        "projects/acme/files/" + "x" * 64,
    ],
)
def test_anything_else_is_refused_with_its_field(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(name, PATTERN, field="file")
    assert caught.value.field == "file"
    assert PATTERN in caught.value.message


@pytest.mark.parametrize("name", ["", "projects", "projects/", "files/x", "projects/A/files/x"])
def test_a_name_without_a_project_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        project_of(name)


@pytest.mark.parametrize("value", ["a", "a1", "a-b", "a" * 63])
def test_a_good_id_is_kept(value: str) -> None:
    assert check_id(value, field="id") == value


@pytest.mark.parametrize("value", ["", "1a", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "a\n", "ä"])
def test_a_bad_id_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument):
        check_id(value, field="file_id")


def test_new_ids_are_legal_distinct_and_sort_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(1_800_000_000_000_000_000, 1_800_000_100_000_000_000, 10**9))
    monkeypatch.setattr("luthier_common.names.time.time_ns", lambda: next(moments))
    ids = [new_id("file") for _ in range(100)]
    assert ids == sorted(set(ids))
    assert all(len(value) == len("file-") + 24 for value in ids)
