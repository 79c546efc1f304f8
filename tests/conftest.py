"""The real servers, as the tests see them: started by `make test`, missing ones skipped on a laptop, fatal in CI."""

import os
import socket
from dataclasses import dataclass

import pytest

PORTS = {"kafka": 9092, "dynamodb": 8000, "elasticsearch": 9200, "memcached": 11211}


@dataclass(frozen=True)
class Services:
    """``host:port`` of each real server."""

    kafka: str
    dynamodb: str
    elasticsearch: str
    memcached: str


@pytest.fixture(scope="session")
def services() -> Services:
    addresses = {name: f"127.0.0.1:{os.environ.get(f'{name.upper()}_PORT', port)}" for name, port in PORTS.items()}
    missing = [f"{name} ({address})" for name, address in addresses.items() if not _listens(address)]
    if missing:
        sentence = f"not running: {', '.join(missing)}; make services starts them"
        if "CI" in os.environ:
            pytest.fail(sentence)
        pytest.skip(sentence)
    return Services(**addresses)


def _listens(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
