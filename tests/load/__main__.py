"""``make load``: mixed traffic by Locust, and a report with its charts under ``build/load/``.

Starts a service of its own on the real servers, unless told otherwise. Exit status 1: something failed, or the workers
were not done with it all within a minute.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests

from coupon.domain.errors import BackendError, ConfigurationError
from tests.bench.place import Place
from tests.bench.report import machine
from tests.e2e.deployment import ROOT, Deployment
from tests.load.lag import Lag, watched
from tests.load.shape import Shape
from tests.load.summary import Counts, table

BACK_WITHIN_S = 60.0
TELL_EVERY_S = 30.0


def main() -> int:
    try:
        return _run(_arguments())
    except (ConfigurationError, BackendError, requests.RequestException) as error:
        say(str(error))
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.url:
        requests.get(f"{options.url}/livez", timeout=5).raise_for_status()
    folder = ROOT / "build" / "load" / f"{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    with _service(options, folder) as (url, environ), watched(environ) as lag:
        say(f"{options.minutes:g} minutes at {url}, records in {folder}")
        status = _locust(options, url, folder, lag)
        if not (folder / "counts.json").exists():
            say(f"Locust ended with {status}, and why is in {folder / 'locust.log'}")
            return 1
        counts = Counts(folder / "counts.json", Shape(options.seconds, options.users))
        back_s = lag.back_after(counts.ended, BACK_WITHIN_S)
    lag.write(folder / "lag.csv", counts.began)
    summary = _summary(options, counts, lag.largest, back_s)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    print(table(counts.named))
    for sentence in counts.complaints:
        say(sentence)
    _tell(summary, folder)
    return 1 if status or counts.failures or back_s is None else 0


def say(sentence: str) -> None:
    print(f"load: {sentence}", flush=True)


@contextmanager
def _service(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Its address, and the environment that it runs in."""
    if options.url:
        yield options.url, os.environ
        return
    say(f"starting a service on {'SQLite' if options.embedded else 'the real servers'}")
    (folder / "service").mkdir()
    with Place(folder / "service") as place:
        environ = place.embedded() if options.embedded else place.on_services()
        with Deployment(environ) as service:
            yield service.url, service.environ


def _locust(options: argparse.Namespace, url: str, folder: Path, lag: Lag) -> int:
    """Run it, and look at the lag meanwhile; its exit status."""
    parameters = {
        "--locustfile": Path(__file__).with_name("locustfile.py"),
        "--host": url,
        "--users": options.users,
        "--rate": options.rate,
        "--run-time": f"{options.seconds}s",
        "--stop-timeout": 10,
        "--html": folder / "report.html",
        "--csv": folder / "requests",
        "--counts": folder / "counts.json",
    }
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary"]
    command += [str(part) for parameter in parameters.items() for part in parameter]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "locust.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    tell_at = time.monotonic() + TELL_EVERY_S
    try:
        while process.poll() is None:
            time.sleep(1)
            seen = lag.look()
            if time.monotonic() > tell_at:
                tell_at += TELL_EVERY_S
                say(f"lag {seen}")
    finally:
        process.terminate()
        process.wait()
    return process.returncode


def _summary(options: argparse.Namespace, counts: Counts, largest: int, back_s: float | None) -> dict[str, Any]:
    of_machine = machine()
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(counts.began)),
        "commit": of_machine["commit"],
        "machine": of_machine["machine"],
        "versions": {**of_machine["versions"], "locust": version("locust")},
        "service": options.url or ("SQLite" if options.embedded else "the real servers"),
        "minutes": options.minutes,
        "users": options.users,
        "requests": counts.requests,
        "failures": counts.failures,
        "complaints": counts.complaints,
        "plateau": {
            "commands_per_s": round(counts.plateau("POST", "PUT"), 1),
            "commands_per_s_wanted": options.rate,
            "requests_per_s": round(counts.plateau("GET", "POST", "PUT"), 1),
        },
        "lag": {"largest": largest, "seconds_until_0": None if back_s is None else round(back_s, 1)},
        "named": [it._asdict() for it in counts.named],
    }


def _tell(summary: dict[str, Any], folder: Path) -> None:
    plateau, lag = summary["plateau"], summary["lag"]
    back_s = lag["seconds_until_0"]
    say(
        f"at the plateau {plateau['commands_per_s']:,} commands/s ({plateau['commands_per_s_wanted']:g} wanted), "
        f"{plateau['requests_per_s']:,} requests/s"
    )
    say(
        f"largest lag {lag['largest']:,}; "
        + (f"not 0 in {BACK_WITHIN_S:g} s" if back_s is None else f"0 after {back_s} s")
    )
    say(f"{summary['requests']:,} requests, {summary['failures']:,} failures; the report is {folder / 'report.html'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--url",
        type=lambda url: url.rstrip("/"),
        help="of a service that runs already, with the COUPON_CONF of this command",
    )
    which.add_argument("--embedded", action="store_true", help="start one on SQLite, instead of on the real servers")
    parser.add_argument("--minutes", type=float, default=2, help="how long, ramps and all (2)")
    parser.add_argument("--rate", type=float, default=300, help="commands a second at the plateau (300)")
    parser.add_argument("--users", type=int, default=100, help="who send them, at the plateau (100)")
    options = parser.parse_args()
    options.seconds = round(options.minutes * 60)
    if options.users < 2:
        parser.error("--users: at least 2, one of marketing and one app")
    if find_spec("locust") is None:
        parser.error("locust is missing; make load installs it")
    return options


if __name__ == "__main__":
    sys.exit(main())
