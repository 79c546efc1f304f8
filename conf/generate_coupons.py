#!/usr/bin/env python3
"""Writes a CSV of any size for ``coupon import``: ``python conf/generate_coupons.py 100000 > coupons.csv``.

The same seed gives the same rows, and another one others. Memory stays flat.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from datetime import date, timedelta

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
LENGTH = 19


def rows(count: int, campaign: int, seed: int, start: date) -> Iterator[str]:
    """``code, yyyyMMdd, yyyyMMdd``: campaigns of so many coupons, each with the same days, valid for one to twelve
    months from a day of the year after ``start``."""
    chance = random.Random(seed)  # noqa: S311 - samples, not secrets
    valid_from = expire_at = start
    for number in range(count):
        if number % campaign == 0:
            valid_from = start + timedelta(days=chance.randrange(365))
            expire_at = valid_from + timedelta(days=30 * chance.randint(1, 12))
        yield f"{code(chance)}, {valid_from:%Y%m%d}, {expire_at:%Y%m%d}\n"


def code(chance: random.Random) -> str:
    """One of 36^19 (3.7e29): a billion rows meet no duplicate."""
    return "".join(chance.choices(ALPHABET, k=LENGTH))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", metavar="ROWS", type=int)
    parser.add_argument("--campaign", metavar="ROWS", type=int, default=5_000, help="rows with the same days, 5000")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument("--start", type=date.fromisoformat, default=date(2026, 1, 1), help="default 2026-01-01")
    chosen = parser.parse_args()
    try:
        sys.stdout.writelines(rows(chosen.count, chosen.campaign, chosen.seed, chosen.start))
    except BrokenPipeError:  # | head
        sys.stderr.close()


if __name__ == "__main__":
    main()
