"""No test uses the network: what asks for an address is refused, and noticed even where the refusal is swallowed."""

import socket

import pytest


def test_addresses_are_refused_and_noticed(addresses_asked):
    with pytest.raises(OSError, match="tests do not use the network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with socket.socket() as connection, pytest.raises(OSError, match="tests do not use the network"):
        connection.connect(("192.0.2.1", 80))
    with pytest.raises(OSError, match="tests do not use the network"):
        socket.getaddrinfo("example.org", 443)
    assert addresses_asked == ["192.0.2.1", "192.0.2.1", "example.org"]
    addresses_asked.clear()
