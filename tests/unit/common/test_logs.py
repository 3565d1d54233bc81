import io
import json
import logging
from collections.abc import Iterator

import pytest
from luthier_common.logs import JsonFormatter, configure_logs, request_id


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("demo", "INFO", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_json_line(stream: io.StringIO) -> None:
    token = request_id.set("r-1")
    logging.getLogger("a.b").info("hello\n%s", "wörld", extra={"rows": 3, "kind": object})
    request_id.reset(token)
    logging.getLogger("a.b").debug("too quiet")
    (text,) = stream.getvalue().splitlines()
    line = json.loads(text)
    assert line["message"] == "hello\nwörld"
    assert (line["service"], line["logger"], line["level"]) == ("demo", "a.b", "INFO")
    assert (line["rows"], line["request_id"]) == (3, "r-1")
    assert line["time"].endswith("+00:00")


def test_an_exception_is_written_out(stream: io.StringIO) -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (text,) = stream.getvalue().splitlines()
    assert "ValueError: boom" in json.loads(text)["exception"]


def test_extras_cannot_forge_what_the_formatter_writes() -> None:
    record = logging.makeLogRecord({"levelname": "INFO", "service": "forged", "level": "forged"})
    line = json.loads(JsonFormatter("real").format(record))
    assert (line["service"], line["level"]) == ("real", "INFO")
