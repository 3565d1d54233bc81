"""Which engine serves which base model: what may be configured, and how it is told otherwise."""

import json
from pathlib import Path

import pytest
from luthier.inference.v1.base_model_pb2 import BaseModel
from luthier_common.errors import FailedPrecondition
from luthier_common.identity import IdentitySigner
from luthier_common.objects.blobs import Blobs
from luthier_common.objects.directory import DirectoryObjects
from luthier_common.settings import SettingsError, load
from luthier_inference.engines.configuration import VllmEngines
from luthier_inference.engines.fleets import configured_fleets
from luthier_inference.settings import InferenceSettings

NAME = "projects/library/baseModels/llama"
SECRET = "a secret that only tests know, 32+"


def read(monkeypatch: pytest.MonkeyPatch, engines: object) -> InferenceSettings:
    text = engines if isinstance(engines, str) else json.dumps(engines)
    given = {
        "OBJECTS_URL": "file:///objects", "IDENTITY_SECRET": SECRET, "WORK_DIR": "/work",
        "ENGINES": text,
    }  # fmt: skip
    for key, value in given.items():
        monkeypatch.setenv(f"LUTHIER_{key}", value)
    return load(InferenceSettings)


def test_engines_are_configured_by_base_model(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        NAME: {"kind": "vllm", "urls": ["http://one:8000", "http://two:8000"], "max_lora_rank": 64},
        "projects/acme/baseModels/t5": {"kind": "process", "replicas": 2, "max_calls": 8},
        "projects/acme/baseModels/old": {"kind": "tgi", "urls": ["http://tgi"], "adapters": []},
    }
    settings = read(monkeypatch, given)
    assert isinstance(settings.engines[NAME], VllmEngines)
    blobs = Blobs(DirectoryObjects(Path("/nowhere")))
    fleets = configured_fleets(settings, IdentitySigner(SECRET), blobs)
    vllm = fleets(BaseModel(name=NAME))
    assert vllm.places == ("http://one:8000/", "http://two:8000/")
    assert not vllm.local
    ours = fleets(BaseModel(name="projects/acme/baseModels/t5"))
    assert (ours.places, ours.max_calls, ours.local) == (("0", "1"), 8, True)
    other = fleets(BaseModel(name="projects/acme/baseModels/other"))
    assert (other.places, other.local) == (("0",), True), "one process of ours is the default"


@pytest.mark.parametrize(
    ("engines", "told"),
    [
        ("{", "engines"),
        ({"llama": {"kind": "process"}}, "must have the form projects/{project}/baseModels/"),
        ({NAME: {"kind": "sglang"}}, "'process', 'vllm', 'tgi'"),
        ({NAME: {"kind": "vllm"}}, "URLS: is required"),
        ({NAME: {"kind": "vllm", "urls": []}}, "at least 1 item"),
        ({NAME: {"kind": "vllm", "urls": ["vllm:8000"]}}, "URL scheme should be"),
        ({NAME: {"kind": "vllm", "urls": ["http://a"] * 2}}, "must be different replicas"),
        (
            {NAME: {"kind": "vllm", "urls": ["http://a"], "max_lora_rank": 24}},
            "must be one of 1, 8",
        ),
        ({NAME: {"kind": "process", "replicas": 0}}, "greater than or equal to 1"),
        ({NAME: {"kind": "process", "replica": 2}}, "Extra inputs are not permitted"),
        ({NAME: {"kind": "tgi", "urls": ["http://a"], "adapters": ["a"]}}, "should match pattern"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, engines: object, told: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, engines)
    assert told in str(caught.value)


def test_servers_of_another_snapshot_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {NAME: {"kind": "vllm", "urls": ["http://a"], "base_model_digest": "a" * 64}}
    blobs = Blobs(DirectoryObjects(Path("/nowhere")))
    fleets = configured_fleets(read(monkeypatch, given), IdentitySigner(SECRET), blobs)
    assert fleets(BaseModel(name=NAME, digest="a" * 64)).places
    with pytest.raises(FailedPrecondition) as caught:
        fleets(BaseModel(name=NAME, digest="b" * 64))
    assert caught.value.reason == "ENGINE_BASE_MISMATCH"
