"""The real servers of a run, the links to them, and the configurations of those who come by each way."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from tests.e2e.deployment import ROOT, on_services
from tests.proof.chaos.links import Link, Links
from tests.proof.chaos.plan import Servers
from tests.services import CANNOT_RUN_HERE, PrivateServers

SIDES = "web", "worker"
EDGE = ROOT / "tests" / "proof" / "chaos" / "edge"


class CannotRunHere(Exception):
    """This machine lacks what a server needs."""


class Surroundings(NamedTuple):
    """``direct`` is the configuration of those who look at the servers themselves, ``sides`` that of web and worker."""

    servers: PrivateServers
    links: Mapping[str, Link]
    direct: dict[str, str]
    sides: dict[str, dict[str, str]]

    @property
    def patient(self) -> dict[str, str]:
        """As ``direct``, for who collects the evidence: on a busy machine a slow answer must not cost the run."""
        urls = {name: f"{url}&timeout_s=60" for name, url in _urls(self.direct).items()}
        return self.direct | urls | {"COUPON_RESERVATION_TTL_S": "60"}

    def tell(self, command: str, *names: str) -> None:
        done = self.servers.tell(command, *names)
        if done.returncode in (-signal.SIGINT, 128 + signal.SIGINT):  # a Ctrl-C reached it too
            done = self.servers.tell(command, *names)
        if done.returncode == CANNOT_RUN_HERE:
            raise CannotRunHere(done.stderr.splitlines()[-1])
        if done.returncode:
            raise RuntimeError(f"services {command} {' '.join(names)}: {done.stderr}")


@contextmanager
def surroundings(folder: Path, used: Servers, topics: str, with_links: bool, edge: float) -> Iterator[Surroundings]:
    """Up inside the block, and gone after it; their logs stay in the folder."""
    servers = PrivateServers(SIDES if with_links else ())
    try:
        with Links() as links:
            opened = _open(links, servers, used) if with_links else {}
            direct = {name: f"127.0.0.1:{servers.port(name)}" for name in used}
            environ = on_services(folder, SimpleNamespace(**direct), search=used.search) | {"COUPON_TOPICS": topics}
            sides = {side: _edged(_through(environ, direct, side, opened), edge, folder) for side in SIDES}
            here = Surroundings(servers, opened, environ, sides)
            here.tell("up", *used)
            yield here
    finally:
        shutil.copytree(servers.logs, folder / "servers", ignore=lambda _, names: [n for n in names if "log" not in n])
        servers.close()


def _open(links: Links, servers: PrivateServers, used: Servers) -> dict[str, Link]:
    """Kafka tells its clients where to come, so it has a door for each link."""
    opened = {}
    for side in SIDES:
        for server in used:
            upstream, port = servers.kafka_link(side) if server == "kafka" else (servers.port(server), 0)
            opened[f"{side}-{server}"] = links.open(f"{side}-{server}", upstream, port)
    return opened


def _through(
    environ: dict[str, str], direct: Mapping[str, str], side: str, links: Mapping[str, Link]
) -> dict[str, str]:
    """The environment with each server at the side's link to it."""
    environ = dict(environ)
    for server, address in direct.items():
        if link := links.get(f"{side}-{server}"):
            environ |= {name: url.replace(address, f"127.0.0.1:{link.port}") for name, url in _urls(environ).items()}
    return environ


def _urls(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("COUPON_") and name.endswith("_URL")}


def _edged(environ: dict[str, str], edge: float, folder: Path) -> dict[str, str]:
    """With faults at the edge of the drivers, injected inside the processes of the service."""
    if not edge:
        return environ
    (folder / "edge").mkdir(exist_ok=True)
    path = os.pathsep.join([str(EDGE), environ["PYTHONPATH"]])
    return {**environ, "PYTHONPATH": path, "CHAOS_EDGE": str(edge), "CHAOS_EDGE_LOG": str(folder / "edge")}
