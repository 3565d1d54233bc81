"""Generate the gRPC stubs (`make proto`) and the descriptor set that buf lints.

Usage: python scripts/generate_protos.py OUT_DIR [DESCRIPTOR_SET]
The stubs land under OUT_DIR/luthier/...; the protos of google.api and google.rpc
come from the installed googleapis-common-protos, so nothing is downloaded.
"""

import sys
from pathlib import Path

import google.api.annotations_pb2
import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent / "proto"


def includes() -> list[str]:
    """Folders with `.proto` files: ours, googleapis' and protobuf's own."""
    googleapis = Path(google.api.annotations_pb2.__file__).parents[2]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    return [f"-I{folder}" for folder in (ROOT, googleapis, well_known)]


def generate(out: Path, descriptor_set: Path | None) -> int:
    """Run protoc over every proto of Luthier; returns its exit status."""
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("luthier/**/*.proto"))
    services = [file for file in files if file.endswith("_service.proto")]
    messages = [f"--python_out={out}", f"--pyi_out={out}"]
    if descriptor_set is not None:
        messages += [f"--descriptor_set_out={descriptor_set}", "--include_imports"]
        messages += ["--include_source_info"]
    stubs = [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"]
    return int(
        protoc.main(["protoc", *includes(), *messages, *files])
        or protoc.main(["protoc", *includes(), *stubs, *services])
    )


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
