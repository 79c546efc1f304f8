"""Simulate seeds: ``python -m tests.proof.simulation [--seeds 500] [--first 0] [--jobs 2]``, or one: ``--seed N``.

Exit status 1 when a promise was broken; the seeds that broke one are printed, and replay exactly.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from coupon.runtime import logs
from coupon.runtime import settings as configuration
from coupon.runtime.settings import Settings
from tests.proof.simulation.world import Run, run

SHOWN = 5
MEMORY = "/dev/shm"
Told = tuple[int, list[tuple[str, str]], Counter[str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, telling of every call")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--all", action="store_true", help="also the faults and promises that are known not to hold yet"
    )
    parser.add_argument("--stop", action="store_true", help="at the first seed that breaks a promise")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.seed is not None:
        return report([told_of(arguments.seed, print, everything=arguments.all)], stop=False)
    started = time.monotonic()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        broken = report(pool.map(partial(told_of, everything=arguments.all), seeds, chunksize=5), stop=arguments.stop)
        pool.shutdown(cancel_futures=True)
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if broken else 0


def told_of(seed: int, trace: Callable[[str], None] | None = None, *, everything: bool = False) -> Told:
    """What is wrong with the seed, and what happened in it."""
    with tempfile.NamedTemporaryFile(dir=MEMORY if os.path.isdir(MEMORY) else None) as heartbeat:
        return summary_of(run(seed, settings(heartbeat.name), trace, everything=everything))


def settings(heartbeat_file: str) -> Settings:
    logs.configure("critical", "text")  # the restores' dead letters are no news
    return configuration.load({"COUPON_CONF": "conf/test.env", "COUPON_HEARTBEAT_FILE": heartbeat_file})


def summary_of(run: Run) -> Told:
    counts = Counter({str(fault): number for fault, number in run.faults.injected.items()})
    counts.update(f"answer {request.status}" for request in run.evidence.requests)
    counts.update({"turns": run.turns, "commands in the queue": len(run.evidence.commands)})
    coupons = run.evidence.coupons.values()
    counts.update({"applied": sum(len(coupon.history) - 1 for coupon in coupons)})
    counts.update({"rejected": sum(len(coupon.rejections) for coupon in coupons)})
    return run.seed, [tuple(violation) for violation in run.violations], counts


def report(summaries: Iterable[Told], *, stop: bool) -> int:
    """Print as it goes; the number of seeds that broke a promise."""
    total, promises, broken, seeds = Counter[str](), Counter[str](), 0, 0
    for seed, violations, counts in summaries:
        seeds += 1
        total += counts
        promises.update({promise for promise, _ in violations})
        if violations and (broken := broken + 1) <= SHOWN:
            for promise, what in violations[:SHOWN]:
                print(f"seed {seed}: {promise}: {what}", flush=True)
        if broken and stop:
            break
    for name, number in sorted(total.items()):
        print(f"{number:>12,} {name}")
    print(f"{seeds:,} seeds, {broken:,} broke a promise", *(f"({p}: {n})" for p, n in promises.most_common()))
    return broken


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # a seed has to replay exactly, and sets of text are walked by hash
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.proof.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
