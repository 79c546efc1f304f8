"""The real servers, as the tests see them: each started at first use, private and fresh, on a port of its own.

A server whose port is given in the environment (KAFKA_PORT, …) is used as it is, and left alone. One that this machine
cannot run is a visible skip on a laptop, and a failure where CI is set.
"""

import os
import random
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "services" / "services"
OFFSETS = {"memcached": 0, "dynamodb": 1, "kafka": 2, "elasticsearch": 4, "redis": 5, "mongodb": 6}
"""From the first of the ports; Kafka takes the next one too, Elasticsearch the one 100 above."""
KAFKA_LINKS, KAFKA_LINKS_MAX = 7, 4
"""The offset of Kafka's links, two ports each, and how many there may be."""
PROXIED = "proxied"
"""The name of the link that Kafka has for all tests."""
TAKEN = (*range(KAFKA_LINKS + 2 * KAFKA_LINKS_MAX), 104)
FIRST_PORTS = range(20_000, 30_000)
"""Below those that the kernel hands out, so that a server that was killed finds its port free again."""
CANNOT_RUN_HERE = 3
"""Exit status of ``services up`` where this machine lacks something."""


class Services:
    """``host:port`` of each real server, and ways to hurt one. A test leaves all of them up."""

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self._say = say
        self._given = {name: port for name in OFFSETS if (port := os.environ.get(f"{name.upper()}_PORT"))}
        self._private: PrivateServers | None = None
        self._up: set[str] = set()
        self._hurt: set[str] = set()
        self.missing: dict[str, str] = {}
        """Why each server that was asked for is not there."""

    @property
    def kafka(self) -> str:
        return self._address("kafka")

    @property
    def dynamodb(self) -> str:
        return self._address("dynamodb")

    @property
    def elasticsearch(self) -> str:
        return self._address("elasticsearch")

    @property
    def memcached(self) -> str:
        return self._address("memcached")

    @property
    def redis(self) -> str:
        return self._address("redis")

    @property
    def mongodb(self) -> str:
        return self._address("mongodb")

    @property
    def kafka_link(self) -> tuple[int, int]:
        """As ``PrivateServers.kafka_link``, of the one link that Kafka has here."""
        if "kafka" in self._given:
            pytest.skip("KAFKA_PORT names a server that knows of no proxy")
        self._address("kafka")
        return self._servers().kafka_link(PROXIED)

    def kill(self, name: str) -> None:
        """SIGKILL; its data stays (memcached has none)."""
        self._hurting(name, "kill")

    def up(self, name: str) -> None:
        """Start it again on its port, with its data; returns when it is ready."""
        self._healing(name, "up")

    def pause(self, name: str) -> None:
        """SIGSTOP: connections are accepted, and nothing is answered."""
        self._hurting(name, "pause")

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._healing(name, "resume")

    def pid(self, name: str) -> int:
        """Of one that was started here."""
        self._address(name)
        return int((self._servers().logs / f"{name}.pid").read_text())

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Killed inside the block, up again after it."""
        self.kill(name)
        try:
            yield
        finally:
            self.up(name)

    @contextmanager
    def silent(self, name: str) -> Iterator[None]:
        """Paused inside the block."""
        self.pause(name)
        try:
            yield
        finally:
            self.resume(name)

    def heal(self) -> None:
        """Mend what a failed test left killed or paused."""
        for name in sorted(self._hurt):
            self.resume(name)
            self.up(name)

    def close(self) -> None:
        if self._private is not None:
            self._private.close()

    def _address(self, name: str) -> str:
        if name in self._given:
            return self._given_address(name)
        if name not in self._up:
            self._start(name)
        return f"127.0.0.1:{self._servers().port(name)}"

    def _given_address(self, name: str) -> str:
        port = int(self._given[name])
        if not _listens(port):
            self._is_missing(name, f"nothing listens on 127.0.0.1:{port} ({name.upper()}_PORT)")
        return f"127.0.0.1:{port}"

    def _start(self, name: str) -> None:
        if name in self.missing:
            self._is_missing(name, self.missing[name])
        self._say(f"starting {name}")
        done = self._servers().tell("up", name)
        if done.returncode == CANNOT_RUN_HERE:
            self._is_missing(name, done.stderr.splitlines()[-1].removeprefix("services: "))
        _check(done)
        self._up.add(name)

    def _is_missing(self, name: str, reason: str) -> None:
        self.missing[name] = reason
        if os.environ.get("CI"):
            pytest.fail(f"no {name}: {reason}", pytrace=False)
        pytest.skip(f"no {name}: {reason}")

    def _hurting(self, name: str, command: str) -> None:
        if name in self._given:
            pytest.skip(f"{name.upper()}_PORT names a server that is not the tests' to {command}")
        self._address(name)
        self._hurt.add(name)
        _check(self._servers().tell(command, name))

    def _healing(self, name: str, command: str) -> None:
        _check(self._servers().tell(command, name))
        self._hurt.discard(name)

    def _servers(self) -> "PrivateServers":
        if self._private is None:
            self._private = PrivateServers(kafka_links=[PROXIED])
        return self._private


class PrivateServers:
    """A set of servers of its own state and ports. It ends with this process, however this process ends.

    ``kafka_links`` are names of ways to Kafka beside the direct one; at the end of each there has to be a proxy.
    ``environ`` has more for the script, such as ``KAFKA_PROPERTIES``.
    """

    def __init__(self, kafka_links: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> None:
        assert len(kafka_links) <= KAFKA_LINKS_MAX
        self._kafka_links = kafka_links
        (ROOT / "build").mkdir(exist_ok=True)
        self._state = tempfile.mkdtemp(prefix="services-", dir=ROOT / "build")
        self._first = _first_port()
        ports = {f"{name.upper()}_PORT": str(self.port(name)) for name in OFFSETS}
        links = " ".join("{}:{}:{}".format(name.upper(), *self.kafka_link(name)) for name in kafka_links)
        mine = {**ports, "KAFKA_LINKS": links, "SERVICES_STATE": self._state}
        self._environ = {**os.environ, **mine, **(environ or {})}
        # Reads until this process closes the pipe, or the kernel does it for it; out of a Ctrl-C's reach.
        self._undertaker = subprocess.Popen(
            ["bash", "-c", 'read -r; "$0" wipe; rm -rf "$1"', SCRIPT, self._state],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environ,
            start_new_session=True,
        )

    def port(self, name: str) -> int:
        return self._first + OFFSETS[name]

    def kafka_link(self, name: str) -> tuple[int, int]:
        """Where Kafka listens for those who come by this link, and where it tells them that it is: the proxy's port."""
        first = self._first + KAFKA_LINKS + 2 * self._kafka_links.index(name)
        return first, first + 1

    @property
    def logs(self) -> Path:
        """The folder with a log and a pid file of each server; gone after ``close``."""
        return Path(self._state) / "run"

    def tell(self, command: str, *names: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([SCRIPT, command, *names], env=self._environ, capture_output=True, text=True, check=False)

    def kafka_tool(self, name: str, *arguments: str) -> None:
        """Run one of Kafka's own tools, by the name of its class."""
        home = os.environ.get("SERVICES_HOME") or Path.home() / ".cache" / "coupon-services"
        command = ["java", "-cp", f"{home}/kafka/lib/*", f"org.apache.kafka.tools.{name}", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        assert self._undertaker.stdin is not None
        self._undertaker.stdin.close()
        self._undertaker.wait(60)


def _check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def _first_port() -> int:
    for _ in range(1_000):
        first = random.choice(FIRST_PORTS)
        if not any(_listens(first + offset) for offset in TAKEN):
            return first
    raise AssertionError(f"no free ports in {FIRST_PORTS}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
