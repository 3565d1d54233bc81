"""docs/datasets.md says what the code does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from luthier.dataset.v1.dataset_pb2 import Dataset
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.recipe_pb2 import Recipe
from luthier_dataset.build import artifacts
from luthier_dataset.build.make import manifest_of
from luthier_dataset.documents import ReaderLimits
from luthier_dataset.quality.national_ids import NATIONAL_IDS
from luthier_dataset.quality.near import PERMUTATIONS
from luthier_dataset.quality.report import actions
from luthier_dataset.readers import (
    delimited,
    html,
    json_document,
    mail,
    markdown,
    members,
    office,
    restructured,
)
from luthier_dataset.readers.columns import MAX_COLUMNS
from luthier_dataset.readers.jsonl import MAX_DEPTH
from luthier_dataset.readers.kinds import SUPPORTED
from luthier_dataset.readers.source import MAX_SOURCE_BYTES
from luthier_dataset.recipes.questions import QuestionPrompts
from luthier_dataset.row_rules import Shape
from luthier_dataset.rows import MAX_LINE_BYTES, check_row
from luthier_dataset.staging import MAX_DIRECT_BYTES, MAX_PART_BYTES
from luthier_gateway import datasets
from luthier_gateway.dataset_request import CreationRequest, PreviewRequest
from luthier_gateway.openai import files, uploads

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
RECIPES = [field.name for field in Recipe.DESCRIPTOR.fields]
MIB = 1024 * 1024
GIB = 1024 * MIB


def section(title: str) -> str:
    """The text under a heading, with what is below it."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found, title
    return found[2]


def read_table() -> dict[str, str]:
    """The rows of the table of what can be read, by each suffix."""
    rows = [line for line in section("What can be read").splitlines() if line.startswith("| `.")]
    return {
        suffix: row for row in rows for suffix in re.findall(r"`(\.[\w.]+)`", row.split("|")[1])
    }


def test_the_generated_parts_are_current(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "make_datasets_page.py"
    done = subprocess.run(
        [sys.executable, script, "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"python {script.relative_to(ROOT)} makes\n{done.stderr}"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_shown_with_rows_and_fields(name: str) -> None:
    message = "".join(word.capitalize() for word in name.split("_")) + "Recipe"
    for mark in (f"rows: {name}", f"fields: {message}"):
        assert re.search(rf"<!-- {mark} -->\n.+?\n<!-- end -->", PAGE, re.S), mark
    assert f"\n### {name}\n" in PAGE
    assert f"| `{name}` |" in section("Recipes")


def test_every_suffix_is_in_the_table() -> None:
    assert set(read_table()) == set(SUPPORTED.split(", "))


@pytest.mark.parametrize(
    ("suffix", "limit"),
    [
        (".docx", f"{office.MAX_UNPACKED_BYTES // MIB} MiB unpacked"),
        (".docx", f"{office.MAX_PART_BYTES // MIB} MiB an XML part"),
        (".xlsx", f"{MAX_COLUMNS:,} columns"),
        (".csv", f"{delimited.MAX_RECORD:,} characters or {delimited.MAX_RECORD_LINES:,} lines"),
        (".jsonl", f"{MAX_LINE_BYTES // MIB} MiB a line, {MAX_DEPTH} levels"),
        (".json", f"{json_document.MAX_BYTES // MIB} MiB"),
        (".html", f"{html.MAX_BYTES // MIB} MiB"),
        (".md", f"{markdown.MAX_CHARACTERS // MIB} MiB, {markdown.MAX_LINES:,} lines"),
        (".md", f"{markdown.MAX_MARKS:,} marks a block"),
        (".rst", f"{restructured.MAX_BYTES // MIB} MiB"),
        (".eml", f"{mail.MAX_BYTES // MIB} MiB"),
        (".zip", f"{members.MAX_MEMBERS:,} members"),
        (".zip", f"{members.MAX_UNPACKED_BYTES // GIB} GiB unpacked"),
        (".py", f"{MAX_SOURCE_BYTES // MIB} MiB"),
    ],
)
def test_a_limit_of_a_format_is_told(suffix: str, limit: str) -> None:
    assert limit in read_table()[suffix]


def test_the_other_limits_are_told() -> None:
    limits = ReaderLimits()
    told = " ".join(section("What can be read").split())
    assert f"at most {limits.document_bytes // GIB} GiB" in told
    assert f"{limits.memory_bytes // GIB} GiB of memory and {limits.cpu_seconds} s" in told
    told = " ".join(section("Uploads").split())
    assert f"at most {MAX_PART_BYTES // MIB} MiB" in told
    assert f"at most {MAX_DIRECT_BYTES // GIB} GiB" in told
    told = section("Quality gate")
    assert f"signatures of {PERMUTATIONS} bytes" in told
    assert f"national ids of {len({one.name for one in NATIONAL_IDS})} kinds" in told


def test_every_route_is_there_and_told() -> None:
    routers = (files.router, uploads.router, datasets.router)
    there = {
        f"{method} /v1{route.path}"  # type: ignore[attr-defined]
        for router in routers
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert set(re.findall(r"`((?:GET|POST|DELETE) /v1/[\w/{}]+)", PAGE)) == there


def test_every_field_of_the_body_is_told() -> None:
    told = section("Five minutes")
    fields = {*CreationRequest.model_fields, *PreviewRequest.model_fields}
    assert [field for field in fields if not re.search(rf"[`\"]{field}[`\"]", told)] == []


def test_the_manifest_and_the_parquet_file_are_told_whole() -> None:
    def keys(text: str) -> set[str]:
        rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        return {key for row in rows for key in re.findall(r"`(\w+)`", row)}

    manifest, parquet = section("Determinism").split("### The Parquet file")
    made = manifest_of(Dataset(), Dataset(), File(), None, QuestionPrompts())
    assert keys(manifest) == set(made)
    assert keys(parquet) == set(artifacts.SCHEMA.names)
    origin = artifacts.SCHEMA.field("origins").type.value_type
    assert [field.name for field in origin if f"`{field.name}`" not in parquet] == []


def test_every_check_has_a_default() -> None:
    told = section("Quality gate")
    assert len(re.findall(r"^\| `\w+` \|.*\| `(?:report|drop)` \|$", told, re.M)) == len(
        actions([])
    )


def test_the_rows_of_the_page_are_rows() -> None:
    found = re.search(r"<!-- snippet: shapes -->\n```json\n(.*?)```", PAGE, re.S)
    assert found
    shapes = [check_row(json.loads(line)) for line in found[1].splitlines()]
    assert shapes == list(Shape)


def test_links_lead_somewhere() -> None:
    def anchor(heading: str) -> str:
        return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")

    outside = re.sub(r"^(````?)\w*\n.*?^\1\n", "", PAGE, flags=re.M | re.S)
    anchors = {f"#{anchor(one)}" for one in re.findall(r"^#+ (.*)$", outside, re.M)}
    for link in re.findall(r"\]\(([^)]+)\)", outside):
        # The figures are written by `make bench-datasets`.
        if link.startswith("#"):
            assert link in anchors
        elif not link.startswith("../benchmarks/results/"):
            assert (ROOT / "docs" / link).exists(), link
