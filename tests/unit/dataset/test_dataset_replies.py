from pathlib import Path

from luthier_dataset.build.replies import Recorded, Replies, key_of
from luthier_dataset.recipes.recipe import Ask, Reply


def test_a_reply_is_found_by_model_prompt_and_length_not_by_names() -> None:
    ask = Ask("Why?", "projects/a/baseModels/m", 64)
    same = Ask("Why?", "projects/b/baseModels/other-name", 64)
    assert key_of(ask, "d1") == key_of(same, "d1")
    others = {key_of(ask, "d2"), key_of(Ask("Why not?"), "d1"), key_of(Ask("Why?", "", 65), "d1")}
    assert len(others | {key_of(ask, "d1")}) == 4


def test_what_is_recorded_is_there_after_reopening_and_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with Replies(path, writable=True) as replies:
        replies.put([Recorded("k", Reply("one")), Recorded("l", Reply("", False, "too long"))])
        replies.put([Recorded("k", Reply("two"))])
    with Replies(path) as replies:
        assert replies.get("k") == Reply("one")
        assert replies.get("l") == Reply("", False, "too long")
        assert replies.get("m") is None


def test_readers_see_what_is_written_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with Replies(path, writable=True) as writer, Replies(path) as reader:
        assert reader.get("k") is None
        writer.put([Recorded("k", Reply("one"))])
        assert reader.get("k") == Reply("one")


def test_a_record_does_not_depend_on_the_order_of_replies_and_serves_another_build(
    tmp_path: Path,
) -> None:
    records = [Recorded(key, Reply(f"reply {key}")) for key in "abc"]
    written = []
    for name, order in (("one", records), ("two", records[::-1])):
        with Replies(tmp_path / name, writable=True) as replies:
            replies.put([*order, Recorded("z", Reply("of another dataset"))])
            replies.use("abc")
            assert replies.count() == 3
            written.append(b"".join(replies.lines()))
    assert written[0] == written[1]
    (tmp_path / "record.jsonl").write_bytes(written[0])
    with Replies(tmp_path / "three", writable=True) as replies:
        replies.load(tmp_path / "record.jsonl")
        assert replies.get("b") == Reply("reply b")
