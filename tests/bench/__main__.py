"""``make bench``: every figure beside its yardstick from the same run; printed, and in ``build/bench/`` as JSON.

``ARGS='cpu taking'`` takes only these groups.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import (
    applying,
    beside_creations,
    growth,
    guessing,
    hanging,
    importing,
    latency,
    on_mongodb,
    other_servers,
    rebuilding,
    restoring,
    scale,
    slow,
    sqlite_worker,
    taking,
    web_cpu,
    worker_cpu,
)
from tests.bench.figure import Figure
from tests.bench.peers import figures as peers
from tests.bench.place import Place
from tests.bench.report import machine, markdown, worsened
from tests.e2e.deployment import ROOT

GROUPS: dict[str, list[Callable[[Place], list[Figure]]]] = {
    "cpu": [web_cpu.figures, web_cpu.crowd_figures, worker_cpu.figures],
    "taking": [taking.figures],
    "applying": [applying.figures],
    "latency": [latency.figures],
    "beside-creations": [beside_creations.figures],
    "hanging": [hanging.figures],
    "guessing": [guessing.figures],
    "sqlite": [sqlite_worker.figures],
    "import": [importing.figures],
    "rebuild": [rebuilding.figures],
    "restore": [restoring.figures],
    "growth": [growth.figures],
    "growth-long": [growth.long_figures],
    "slow": [slow.figures],
    "other-servers": [other_servers.figures, on_mongodb.figures],
    "peers": [peers.embedded, peers.on_services],
    "scale": [scale.figures],
}
LONG = {"growth-long", "scale", "peers", "other-servers"}
"""Taken only when they are named."""


def main() -> int:
    chosen = _arguments()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=_build()) as folder, Place(Path(folder)) as place:
        for group in chosen.groups or [name for name in GROUPS if name not in LONG]:
            for take in GROUPS[group]:
                taken = take(place)
                figures += taken
                print(markdown(taken), flush=True)
    report = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **machine()}
    report["figures"] = [figure.as_json() for figure in figures]
    file = chosen.json or _build() / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({name: report[name] for name in report if name != "figures"}, ensure_ascii=False))
    print(f"written to {file}")
    if chosen.baseline:
        worse = worsened(figures, json.loads(chosen.baseline.read_text())["figures"])
        print("\n".join(worse) or f"none worsened against {chosen.baseline}")
        return 1 if worse else 0
    return 0


def _build() -> Path:
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)} (all but {', '.join(LONG)})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go (build/bench/…)")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="exit status 1 when a ratio is worse than there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
