"""``make bench``: every figure beside its yardstick from the same run; printed, and in ``build/bench/`` as JSON."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.bench import web_cpu, worker_cpu
from tests.bench.figure import ROUNDS, Figure
from tests.e2e.deployment import ROOT
from tests.services import PrivateServers

DRIVERS = ("flask", "marshmallow", "pynamodb", "kafka-python", "elasticsearch", "python-memcached")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "COUPON_CONF": "conf/test.env",
            "COUPON_HEARTBEAT_FILE": f"{folder}/worker.heartbeat",
            "COUPON_LOG_FORMAT": "json",
        }
        servers = PrivateServers()
        try:
            assert servers.tell("up", "dynamodb").returncode == 0
            with quiet():
                figures = web_cpu.figures(environ)
                figures += worker_cpu.figures(environ, f"127.0.0.1:{servers.port('dynamodb')}")
        finally:
            servers.close()
    report(figures)
    return 0


@contextmanager
def quiet() -> Iterator[None]:
    """Logs are written as in production, and go nowhere."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def report(figures: list[Figure]) -> None:
    told = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpus": os.cpu_count(), "processor": processor(), "load": os.getloadavg()[0]},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in DRIVERS},
        "rounds": ROUNDS,
        "figures": [figure.as_json() for figure in figures],
    }
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(told, indent=1) + "\n")
    print(f"{told['machine']}, Python {told['python']}, {told['versions']}")
    print(f"medians of {ROUNDS} rounds (least to most)")
    for figure in told["figures"]:
        unit = figure["unit"]
        print(f"{figure['figure']}: {spread(figure['ours'])} {unit};", end=" ")
        print(f"{figure['yardstick']}: {spread(figure['yardstick value'])} {unit};", end=" ")
        print(f"ratio {figure['ratio']}, to reach {figure['goal']}")
    print(f"written to {file.relative_to(ROOT)}")


def spread(value: dict[str, float]) -> str:
    return f"{value['median']} ({value['min']}–{value['max']})"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    sys.exit(main())
