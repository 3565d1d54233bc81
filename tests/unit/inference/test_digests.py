import hashlib

from luthier.inference.v1.adapter_pb2 import Adapter
from luthier.inference.v1.base_model_pb2 import ModelFile
from luthier_inference.digests import adapter_digest, base_model_digest

A = ModelFile(path="a.json", sha256="1" * 64, size_bytes=3)
B = ModelFile(path="b.json", sha256="0" * 64, size_bytes=4)


def adapter(**changes: object) -> Adapter:
    fields: dict[str, object] = {
        "base_model": "projects/library/baseModels/tiny",
        "base_model_digest": "b" * 64,
        "tokenizer_digest": "c" * 64,
        "dataset_digest": "d" * 64,
        "training_job": "projects/acme/trainingJobs/ftjob-1",
        "files": [A, B],
        "configuration": {"rank": "16", "alpha": "32"},
        "metrics": {"loss": 0.25},
    }
    return Adapter(**(fields | changes))  # type: ignore[arg-type]


def test_a_base_models_digest_is_that_of_sorted_sha256sum_lines() -> None:
    expected = hashlib.sha256(f"{'0' * 64}  b.json\n{'1' * 64}  a.json\n".encode()).hexdigest()
    assert base_model_digest([A, B]) == base_model_digest([B, A]) == expected


def test_an_adapters_digest_depends_on_the_manifest_alone() -> None:
    named = adapter(name="projects/acme/adapters/a-1", digest="f" * 64, etag="7")
    named.create_time.GetCurrentTime()
    named.delete_time.GetCurrentTime()
    reordered = adapter(files=[B, A], configuration={"alpha": "32", "rank": "16"})
    assert adapter_digest(named) == adapter_digest(adapter()) == adapter_digest(reordered)
    assert named.digest == "f" * 64, "its argument is left as it is"


def test_every_part_of_the_manifest_counts() -> None:
    digests = {
        adapter_digest(each)
        for each in (
            adapter(),
            adapter(base_model="projects/acme/baseModels/tiny"),
            adapter(base_model_digest="0" * 64),
            adapter(tokenizer_digest="0" * 64),
            adapter(dataset_digest="0" * 64),
            adapter(training_job="projects/acme/trainingJobs/ftjob-2"),
            adapter(files=[A]),
            adapter(files=[A, ModelFile(path="b.json", sha256="2" * 64, size_bytes=4)]),
            adapter(configuration={"rank": "16"}),
            adapter(metrics={"loss": 0.5}),
            adapter(code_version="1"),
            adapter(suffix="x"),
            adapter(hold_reason="rougeL is 0.1, the gate asks for 0.2"),
        )
    }
    assert len(digests) == 13


def test_the_digests_of_published_adapters_never_change() -> None:
    pinned = "b8a4a091400f19f3766403311411083862ffa190cfc8dc02202e14875310bbb1"
    assert adapter_digest(adapter(hold_reason="")) == pinned
