"""What may import what, shown in clean interpreters and in the package's own metadata."""

import re
import subprocess
import sys
from importlib import metadata

import pytest

HEAVY = {"torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets"}
TORCH_FREE_PROCESSES = [
    "luthier_gateway",
    "luthier_dataset",
    "luthier_trainer",
    "luthier_inference",
]


@pytest.mark.parametrize("package", TORCH_FREE_PROCESSES)
def test_a_service_process_never_imports_torch(package: str) -> None:
    program = (
        f"import sys, {package}.app, {package}.settings; "
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


def closure(extra: str) -> set[str]:
    """Every distribution that `pip install luthier[extra]` brings, by normalized name."""
    seen: set[tuple[str, str]] = set()
    todo = [("luthier", extra)]
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        todo += requirements(name, wanted)
    return {name for name, _ in seen}


def requirements(name: str, extra: str) -> list[tuple[str, str]]:
    """(distribution, extra) pairs that one distribution asks for; empty where not installed."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for requirement in map(Requirement, lines):
        environment = {"extra": extra}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            normal = re.sub(r"[-_.]+", "-", requirement.name).lower()
            found += [(normal, ""), *((normal, inner) for inner in requirement.extras)]
    return found


@pytest.mark.parametrize("extra", ["gateway", "dataset", "trainer", "inference"])
def test_an_extra_without_runs_or_engines_brings_no_torch(extra: str) -> None:
    brought = closure(extra)
    assert {"grpcio", "nats-py", "minio"} <= brought
    assert not brought & HEAVY


@pytest.mark.parametrize("extra", ["train", "engine"])
def test_the_closure_sees_torch_where_it_is_asked_for(extra: str) -> None:
    assert "torch" in closure(extra)
