"""Every method declares who may call it, and events cover what they announce."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from luthier.policy.v1 import policy_pb2

GEN = Path(__file__).parents[2] / "proto" / "gen"


def methods() -> Iterator[MethodDescriptor]:
    for path in sorted(GEN.glob("luthier/*/v1/*_service_pb2.py")):
        module = import_module(".".join(path.relative_to(GEN).with_suffix("").parts))
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


METHODS = list(methods())


def test_there_are_methods() -> None:
    assert len(METHODS) >= 20


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_method_declares_its_policy(method: MethodDescriptor) -> None:
    extension: Any = policy_pb2.policy  # the stub types it as a plain field
    policy: policy_pb2.Policy = method.GetOptions().Extensions[extension]
    assert policy.role != policy_pb2.ROLE_UNSPECIFIED
    field = method.input_type.fields_by_name[policy.resource_field]
    assert field.type == FieldDescriptor.TYPE_STRING
    internal = policy.role == policy_pb2.ROLE_SERVICE
    assert internal != policy.public, "public exactly when a person may call it"
    writes = not method.name.startswith(("Get", "List"))
    assert not (writes and policy.library), "the library is read, never written, from outside"


REFUSALS = {"TrainingCommandRefused"}
"""Events of what was asked for and not done: there is no record to name."""


def test_an_announced_event_names_its_record_and_revision() -> None:
    for path in GEN.glob("luthier/*/v1/events_pb2.py"):
        module = import_module(".".join(path.relative_to(GEN).with_suffix("").parts))
        for event in module.DESCRIPTOR.message_types_by_name.values():
            if event.name in REFUSALS:
                continue
            assert [field.name for field in event.fields] == ["name", "revision"]
            assert event.name.endswith("ed"), "events are facts in the past tense"
