"""Check the protos (`make proto-check`): buf's lint, and stubs equal to what protoc makes now."""

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from generate_protos import ROOT, generate


def stale_stubs(fresh: Path, kept: Path) -> list[str]:
    """Paths under `luthier/` that differ, or exist on one side only."""
    names = {
        str(path.relative_to(tree))
        for tree in (fresh, kept)
        for path in tree.glob("luthier/**/*.py*")
        if path.suffix in {".py", ".pyi"}
    }
    _, mismatch, errors = filecmp.cmpfiles(fresh, kept, sorted(names), shallow=False)
    return sorted(mismatch + errors)


def main() -> int:
    """Returns 0 when lint is clean and the stubs are current."""
    with tempfile.TemporaryDirectory() as folder:
        image, fresh = Path(folder) / "luthier.binpb", Path(folder) / "gen"
        if generate(fresh, image) != 0:
            return 1
        lint = subprocess.run(
            ["buf", "lint", str(image), "--config", str(ROOT / "buf.yaml")], check=False
        )
        stale = stale_stubs(fresh, ROOT / "gen")
    for path in stale:
        print(f"proto/gen/{path}: not what the protos give now; run `make proto`", file=sys.stderr)
    return 1 if stale else lint.returncode


if __name__ == "__main__":
    sys.exit(main())
