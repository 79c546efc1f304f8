"""The peers' servers, private and fresh, and their web sides. Each is a context."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests

from tests.bench.place import Place
from tests.e2e.deployment import ROOT, children, eventually, free_port

HERE = Path(__file__).parent
NEEDED = ("initdb", "pg_ctl", "psql", "redis-server")
DRIVERS = ("psycopg", "psycopg_pool", "redis", "hiredis")
OURS, STOCK = "conf/gunicorn.conf.py", "tests/bench/peers/stock.py"
"""The two configurations of gunicorn."""
UNPRIVILEGED = "postgres"
"""PostgreSQL does not run as root: then as this user, which Debian's package makes."""


class Peer(NamedTuple):
    """A web side that answers at ``url``. ``pid`` is gunicorn's, ``server`` that of its database."""

    url: str
    pid: int
    server: int

    @property
    def processes(self) -> list[int]:
        return [self.pid, *children(self.pid), self.server, *children(self.server)]

    @property
    def web(self) -> list[int]:
        return children(self.pid)


def missing() -> list[str]:
    """What this machine lacks to measure the peers."""
    drivers = [name for name in DRIVERS if not _is_importable(name)]
    return [name for name in NEEDED if _found(name) is None] + drivers


@contextmanager
def postgres() -> Iterator[tuple[str, int]]:
    """The DSN of a new database with the peer's tables, and the server's process."""
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        data, port = Path(folder) / "data", free_port()
        if user:
            shutil.chown(folder, user)
        _run(["initdb", "-D", str(data), "-A", "trust", "-U", "peer", "--no-sync"], user)
        options = f"-p {port} -k {folder} -h 127.0.0.1 -c shared_buffers=256MB -c max_connections=200"
        _run(["pg_ctl", "-D", str(data), "-w", "-l", f"{folder}/log", "-o", options, "start"], user)
        dsn = f"host=127.0.0.1 port={port} user=peer dbname=postgres"
        try:
            _run(["psql", "-q", "-d", dsn, "-f", str(HERE / "schema.sql")], None)
            yield dsn, int((data / "postmaster.pid").read_text().split()[0])
        finally:
            _run(["pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop"], user)


def hold_in_postgres(dsn: str, amount: int, of_each: int) -> None:
    """So many coupons more, of which each user holds some."""
    sql = f"""
        INSERT INTO coupon (code, batch, user_id, issued_at, valid_from, expire_at)
        SELECT lpad(n::text, 19, '0'), 'held', 'user' || n / {of_each}, now(), '2020-01-01', '2099-12-31'
        FROM generate_series(0, {amount - 1}) AS n;
        ANALYZE coupon;
        """
    _run(["psql", "-q", "-d", dsn, "-c", sql], None)


@contextmanager
def redis() -> Iterator[tuple[int, int]]:
    """The port of a new server that syncs its log every second, and its process."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [_found("redis-server") or "", "--port", str(port), "--dir", folder, "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield port, server.pid
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def web(place: Place, app: str, configuration: str, server: int, environ: dict[str, str]) -> Iterator[Peer]:
    """The peer's web side on that configuration of gunicorn."""
    port, folder = free_port(), place.new_folder()
    command = [sys.executable, "-m", "gunicorn", "-c", configuration, f"tests.bench.peers.{app}:app"]
    environ = place.embedded() | environ | {"PORT": str(port), "WEB_CONCURRENCY": "2"}
    with (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(
            lambda: requests.get(f"{url}/coupons/none", timeout=5).status_code == 404, 30, requests.ConnectionError
        )
        yield Peer(url, process.pid, server)
    finally:
        process.terminate()
        process.wait(20)


def _run(command: list[str], user: str | None) -> None:
    command = [_found(command[0]) or command[0], *command[1:]]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    ran = subprocess.run(
        command,
        user=user,
        cwd="/",
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout.decode(errors="replace")


def _found(name: str) -> str | None:
    """Its path. Debian does not put the programs of PostgreSQL on the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name) or next((str(folder / name) for folder in versions if (folder / name).exists()), None)


def _is_importable(name: str) -> bool:
    ran = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False)
    return ran.returncode == 0
