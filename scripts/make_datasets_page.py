"""Write the generated parts of docs/datasets.md (`--check`: only tell whether they are current).

What stands between `<!-- KIND: NAME -->` and `<!-- end -->` is replaced: documents of docs/handbook
(`file`), the rows and the report that real builds make of them (`rows`, `report`), the first row as
the model reads it (`read`), and tables from the comments in the protos (`fields`, `checks`).
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from dataset_examples import EXAMPLES, HANDBOOK, ROOT, Built, Example, build_all, starter
from luthier_dataset.quality.report import actions, place_text
from luthier_dataset.readers.items import Place
from proto_tables import checks_table, fields_table

PAGE = ROOT / "docs" / "datasets.md"
_KINDS = "file|rows|read|report|fields|checks"


def blocks(built: Mapping[str, Built]) -> Iterator[tuple[str, str]]:
    """Yield every part that the page may have, under its mark."""
    for path in sorted(HANDBOOK.rglob("*.*")):
        language = {".md": "markdown", ".py": "python"}.get(path.suffix, path.suffix[1:])
        yield f"file: {path.name}", _fenced(path.read_text(encoding="utf-8"), language)
    for example in EXAMPLES:
        name = example.recipe["type"]
        yield f"rows: {name}", _rows(example, built[name])
        yield f"read: {name}", _read(built[name].rows[0])
        yield f"report: {name}", _fenced(built[name].report.text, "markdown")
    for message in ("Chunking", "Judge", *(f"{_camel(name)}Recipe" for name in built)):
        yield f"fields: {message}", fields_table(message)
    yield "checks: all", checks_table(actions([]))


def filled(page: str, made: Mapping[str, str]) -> str:
    """Return the page with every marked part replaced; KeyError for a mark that is not known."""
    marked = re.compile(rf"<!-- ((?:{_KINDS}): [\w.]+) -->\n.*?<!-- end -->", re.DOTALL)
    return marked.sub(lambda at: f"<!-- {at[1]} -->\n{made[at[1]]}\n<!-- end -->", page)


def _rows(example: Example, built: Built) -> str:
    name = example.sources[0]
    link = name.removesuffix(".zip") if name.endswith(".zip") else name
    figures = built.statistics
    noun = "row" if figures.rows == 1 else "rows"
    told = [f"{figures.rows} {noun}, {figures.tokens} tokens"]
    dropped = sorted(figures.dropped_by_reason.items())
    if dropped:
        told.append("left out: " + ", ".join(f"{count} `{why}`" for why, count in dropped))
    rows = "\n\n".join(_row(row, example.sources) for row in built.rows[: example.rows])
    more = figures.rows - example.rows
    return "\n".join(
        [
            f"`{json.dumps(example.recipe)}`",
            "",
            f"On [{name}](handbook/{link}): {'; '.join(told)}.",
            "",
            _fenced(rows, "text"),
            *([f"… and {more} more."] if more > 0 else []),
        ]
    )


def _row(row: Mapping[str, Any], sources: tuple[str, ...]) -> str:
    """A row for people: its parts, where they come from, what it costs."""
    parts = list(_parts(json.loads(row["line"])))
    parts += [("from", _where(origin, sources)) for origin in row["origins"]]
    parts.append(("tokens", f"{row['tokens']}, of them learned {row['learned_tokens']}"))
    if row["findings"]:
        parts.append(("findings", ", ".join(row["findings"]).lower()))
    width = max(len(name) for name, _ in parts) + 2
    return "\n".join(
        f"{name if number == 0 else '':<{width}}{line}".rstrip()
        for name, text in parts
        for number, line in enumerate(text.split("\n"))
    )


def _parts(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "messages" not in body:
        yield from body.items()
    for message in body.get("messages", ()):
        weight = ", weight 0" if message.get("weight") == 0 else ""
        yield message["role"] + weight, message["content"]


def _read(row: Mapping[str, Any]) -> str:
    """A row as the model reads it, what is learned in double brackets."""
    spans = starter().spans(row["shape"], json.loads(row["line"]))
    marked = "".join(f"⟦{text}⟧" if learned else text for text, learned in spans)
    return _fenced(marked, "text")


def _where(origin: Mapping[str, Any], sources: tuple[str, ...]) -> str:
    place = Place(*(origin[name] for name in ("member", "page", "last_page", "line", "last_line")))
    path = " > ".join(origin["heading_path"])
    range_ = f"bytes {origin['start_byte']} to {origin['end_byte']}"
    return ", ".join(filter(None, (sources[origin["source"]], path, place_text(place), range_)))


def _fenced(text: str, language: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def main() -> int:
    """Returns 0, but with `--check` 1 when the page is not current."""
    page = PAGE.read_text(encoding="utf-8")
    made = filled(page, dict(blocks(asyncio.run(build_all()))))
    if "--check" in sys.argv[1:]:
        lines = difflib.unified_diff(page.splitlines(), made.splitlines(), "kept", "made", n=1)
        print("\n".join(lines), file=sys.stderr)
        return int(made != page)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
