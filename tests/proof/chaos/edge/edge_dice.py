"""Which exchanges see a fault, and the record of it."""

import os
import random
from collections.abc import Sequence

CHANCE = float(os.environ["CHAOS_EDGE"])
FOLDER = os.environ.get("CHAOS_EDGE_LOG")


def falls() -> bool:
    return random.random() < CHANCE


def toss() -> bool:
    return random.random() < 0.5


def choose(kinds: Sequence[str]) -> str:
    """One of them, written down: with O_APPEND, so that threads and processes do not mind each other."""
    kind = random.choice(kinds)
    if FOLDER:
        file = os.open(f"{FOLDER}/{os.getpid()}.edge", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, f"{kind}\n".encode())
        os.close(file)
    return kind


def some(number: int, most: int) -> set[int]:
    """At least one and at most so many of so many places."""
    return set(random.sample(range(number), random.randint(1, most)))
