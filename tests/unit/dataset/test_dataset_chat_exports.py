import json
from pathlib import Path
from typing import Any

from luthier_dataset.readers.items import Message, Remark
from luthier_dataset.readers.json_document import read_json


def read(tmp_path: Path, export: Any) -> tuple[list[Message], list[Remark]]:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(export, indent=1), encoding="utf-8")
    items = list(read_json(path))
    data = path.read_bytes()
    for item in items:
        if isinstance(item, Message):
            assert isinstance(json.loads(data[item.place.start : item.place.end]), dict)
    return (
        [item for item in items if isinstance(item, Message)],
        [item for item in items if isinstance(item, Remark)],
    )


def test_a_channel_of_slack_is_messages(tmp_path: Path) -> None:
    messages, remarks = read(
        tmp_path,
        [
            {
                "type": "message",
                "user": "U1",
                "text": "Who &amp; where?",
                "ts": "1700000000.000100",
                "thread_ts": "1700000000.000100",
                "user_profile": {"real_name": "Kim Berg"},
            },
            {
                "type": "message",
                "user": "U2",
                "text": "Odran.",
                "ts": "1700000060.5",
                "thread_ts": "1700000000.000100",
            },
            {"type": "message", "subtype": "channel_join", "user": "U3", "text": "…", "ts": "1.0"},
            {"type": "message", "bot_id": "B1", "text": "Beep.", "ts": "1700000120.0"},
            {"type": "message", "user": "U1", "text": "", "ts": "1700000180.0"},
        ],
    )
    assert [(one.sender, one.text, one.time, one.thread) for one in messages] == [
        ("Kim Berg", "Who & where?", 1700000000.0001, "1700000000.000100"),
        ("U2", "Odran.", 1700000060.5, "1700000000.000100"),
        ("B1", "Beep.", 1700000120.0, ""),
    ]
    assert [one.place.line for one in messages] == [2, 12, 26]
    assert [(one.code, one.detail) for one in remarks] == [
        ("skipped_part", "entries of the chat left out, being no messages with a text: 2")
    ]


def test_a_chat_of_telegram_is_messages(tmp_path: Path) -> None:
    messages, remarks = read(
        tmp_path,
        {
            "name": "Gate watch",
            "type": "private_group",
            "messages": [
                {
                    "id": 1,
                    "type": "service",
                    "date": "2024-01-05T10:00:00",
                    "actor": "Kim",
                    "text": "",
                },
                {
                    "id": 2,
                    "type": "message",
                    "date": "2024-01-05T10:22:13",
                    "date_unixtime": "1704446533",
                    "from": "Kim",
                    "text": ["See ", {"type": "link", "text": "https://gate.example"}, "!"],
                },
                {
                    "id": 3,
                    "type": "message",
                    "date": "2024-01-05T10:23:00",
                    "from": "Ada",
                    "text": "Odran.",
                },
            ],
        },
    )
    assert [(one.sender, one.text, one.time, one.thread) for one in messages] == [
        ("Kim", "See https://gate.example!", 1704446533.0, "Gate watch"),
        ("Ada", "Odran.", 1704450180.0, "Gate watch"),
    ]
    assert [one.detail for one in remarks] == [
        "entries of the chat left out, being no messages with a text: 1"
    ]
