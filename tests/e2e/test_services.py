"""The real servers of the tests themselves: private, hurt and mended, gone with the process that started them."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.services import OFFSETS, ROOT, Services

pytestmark = pytest.mark.services
OWN_PORTS = {name: value for name, value in os.environ.items() if not name.endswith("_PORT")}
SOON_S = 30
DYING = f"""#!{sys.executable}
import os, socket, sys, time
listener, parent = socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("-p") + 1]))), os.getpid()
if os.fork():
    time.sleep(60)
while os.getppid() == parent:
    time.sleep(0.02)
time.sleep(1)
"""
"""A server whose port is taken for another second after it was killed."""


def _answer(address):
    """What memcached says to `version` within a second, None where nobody listens."""
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1) as connection:
            connection.sendall(b"version\r\n")
            return connection.recv(100)
    except ConnectionRefusedError:
        return None


def test_a_server_goes_away_and_comes_back_on_its_port(services):
    address = services.memcached
    assert _answer(address).startswith(b"VERSION")
    with services.away("memcached"):
        assert _answer(address) is None
    assert services.memcached == address
    assert _answer(address).startswith(b"VERSION")


def test_a_silent_server_accepts_and_does_not_answer(services):
    with services.silent("memcached"), pytest.raises(TimeoutError):
        _answer(services.memcached)
    assert _answer(services.memcached).startswith(b"VERSION")


def test_a_server_that_takes_a_while_to_die_is_waited_for(services, tmp_path, monkeypatch):
    """As the kernel needs it on a busy machine: the process has no name any more, and its port is still taken."""
    services.memcached  # noqa: B018 - where it cannot run, this is skipped
    dying = tmp_path / "memcached"
    dying.write_text(DYING)
    dying.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("MEMCACHED_PORT", raising=False)
    with closing(Services()) as others:
        others.kill("memcached")
        others.up("memcached")


@pytest.mark.parametrize("way", ["kill", "pause"])
def test_what_a_test_left_hurt_is_mended_after_it(services, way):
    getattr(services, way)("memcached")
    services.heal()
    assert _answer(services.memcached).startswith(b"VERSION")


def test_every_server_listens_on_loopback_alone(services):
    ports = [int(getattr(services, name).split(":")[1]) for name in OFFSETS]
    listening = {int(port, 16): address for address, port in _listeners()}
    for port in ports:
        assert listening[port] in ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def _listeners():
    """(address, port) of every listening socket, as the kernel writes them."""
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for row in path.read_text().splitlines()[1:] if path.exists() else []:
            _, local, _, state, *_ = row.split()
            if state == "0A":
                yield local.split(":")


def test_the_servers_end_with_the_process_that_started_them_however_it_ends(services):
    services.memcached  # noqa: B018 - where it cannot run, this is skipped
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests.services import Services; print(Services().memcached, flush=True); input()"],
        cwd=ROOT,
        env=OWN_PORTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        address = process.stdout.readline().strip()
        assert _answer(address).startswith(b"VERSION")
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SOON_S
    while _answer(address) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_this_machine_cannot_run_is_a_skip_on_a_laptop_and_a_failure_in_ci(monkeypatch):
    monkeypatch.setenv("KAFKA_PORT", str(_unused_port()))
    monkeypatch.delenv("CI", raising=False)
    laptop = Services()
    with pytest.raises(pytest.skip.Exception, match="no kafka: nothing listens on"):
        laptop.kafka  # noqa: B018
    assert list(laptop.missing) == ["kafka"]
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no kafka: nothing listens on"):
        Services().kafka  # noqa: B018


def _unused_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
