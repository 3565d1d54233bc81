"""Ports that a service finds again after it died."""

import socket

import pytest
from luthier_common.errors import FailedPrecondition
from luthier_standalone.platform import choose_ports
from luthier_standalone.ports import HOST, allocate, is_free


def test_ports_are_free_different_and_below_those_of_outgoing_connections() -> None:
    ports = allocate(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)
    assert max(ports) < 32_768


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        assert not is_free(server.getsockname()[1])


def test_a_wanted_port_is_given_to_nobody_else() -> None:
    (wanted,) = allocate(1)
    ports = choose_ports(wanted, 0)
    others = [*ports.grpc.values(), *ports.metrics.values(), ports.nats]
    assert ports.rest == wanted
    assert len({wanted, *others}) == len(others) + 1


@pytest.mark.parametrize("option", ["--rest-port", "--grpc-port"])
def test_a_wanted_port_in_use_is_named_with_its_option(option: str) -> None:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        taken = server.getsockname()[1]
        wanted = (taken, 0) if option == "--rest-port" else (0, taken)
        with pytest.raises(FailedPrecondition, match=f"{taken} is in use.*{option}"):
            choose_ports(*wanted)
