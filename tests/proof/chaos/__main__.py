"""``python -m tests.proof.chaos``: one run, and its verdict. Exit status 0: no promise was broken; 1: some were."""

import argparse
import secrets
import sys
from datetime import datetime
from pathlib import Path

from coupon.domain.topics import LAYOUTS
from tests.e2e.deployment import ROOT
from tests.proof.chaos.evidence import load
from tests.proof.chaos.plan import SEARCHES
from tests.proof.chaos.report import markdown
from tests.proof.chaos.result import Options, Result
from tests.proof.chaos.run import Run
from tests.proof.chaos.verdict import judge


def main() -> int:
    chosen = _arguments()
    if chosen.judge:
        return _told(_judged_again(chosen.judge), chosen.judge)
    seed = secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed
    options = Options(
        seed=seed,
        minutes=chosen.minutes,
        commands=chosen.commands,
        kills=chosen.kills,
        clients=chosen.clients,
        rate=chosen.rate,
        topics=chosen.topics,
        search=chosen.search,
        links=not chosen.no_links,
        edge=0 if chosen.no_edge else chosen.edge,
    )
    folder = ROOT / "build" / "chaos" / f"{datetime.now():%Y%m%d-%H%M%S}-{seed}"
    folder.mkdir(parents=True)
    say(f"seed {seed}, records in {folder}")
    return _told(Run(options, folder, say).go(), folder)


def say(sentence: str) -> None:
    sys.stdout.write(f"chaos: {sentence}\n")
    sys.stdout.flush()


def _told(result: Result, folder: Path) -> int:
    report = markdown(result)
    (folder / "report.md").write_text(report)
    (folder / "violations.txt").write_text("".join(f"{promise}: {what}\n" for promise, what in result.violations))
    sys.stdout.write(report)
    say(f"{len(result.violations)} violations; seed {result.options.seed}, records in {folder}")
    return 1 if result.violations else 0


def _judged_again(folder: Path) -> Result:
    result = Result.load(folder)
    return judge(result, load(folder, result.secret, result.options.topics), folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, help="run for so long, instead of for commands and kills")
    parser.add_argument("--commands", type=int, default=5_000, help="run until so many were accepted (5000)")
    parser.add_argument("--kills", type=int, default=20, help="and so many processes and servers were killed (20)")
    parser.add_argument("--seed", type=int, help="chooses the faults (random, and printed)")
    parser.add_argument("--clients", type=int, default=16, help="how many at once (16)")
    parser.add_argument("--rate", type=float, help="at most so many commands a second")
    parser.add_argument("--topics", choices=LAYOUTS, default="single", help="the layout of topics (single)")
    parser.add_argument("--search", choices=SEARCHES, default=SEARCHES[0], help="the server of search (elasticsearch)")
    parser.add_argument("--edge", type=float, default=0.02, help="probability of a fault at a driver's edge (0.02)")
    parser.add_argument("--no-links", action="store_true", help="without the faults of links")
    parser.add_argument("--no-edge", action="store_true", help="without the faults at the drivers' edge")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="judge a run that was saved, once more")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
