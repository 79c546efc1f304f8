"""Which workers live, and what they say of themselves: an entry of the cache each, and one that lists them.

A hint, as all in the cache: who is not there may live all the same, while the cache is away or was emptied just now.
"""

import itertools
import os
import re
import socket
from collections.abc import Mapping
from functools import cache as once
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import msgspec

from coupon.ports.cache import Cache
from coupon.ports.queue import Position
from coupon.wire import dump

LIST = "workers"
LIST_S = 86_400
STALE_S = 15
"""A worker that gave no sign for so long is taken for dead (or stuck)."""
TRIES = 5
"""How often a list is written anew that others are writing, before the next sign."""
_NUMBERS = itertools.count(1)
_Word = Annotated[str, msgspec.Meta(max_length=300)]


class Sign(msgspec.Struct, kw_only=True):
    """A worker's state, ``at`` some second. By ``topic/partition``, ``left_alone`` tells why it is not carried out, and
    ``delivered`` up to which offset all of it was: nothing of that is left but commands that wait."""

    host: _Word
    pid: int
    version: _Word
    topics: list[_Word]
    at: float
    works: bool = False
    waiting: int = 0
    search_away: bool = False
    failure: str | None = None
    left_alone: dict[_Word, str] = {}
    delivered: dict[_Word, int] = {}


@once
def package_version() -> str:
    """Of the installed package."""
    try:
        return version("coupon")
    except PackageNotFoundError:  # a copy of the sources
        return "unknown"


def new_name() -> str:
    """Of one worker: no other has it, on any machine."""
    host = re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:100]
    return f"worker:{host}:{os.getpid()}:{next(_NUMBERS)}"


def tell(cache: Cache, name: str, sign: Sign) -> None:
    """Leave the sign for ``STALE_S``. Raises BackendUnavailable."""
    cache.put(name, msgspec.json.encode(sign), STALE_S)
    for _ in range(TRIES):
        cached = cache.get(LIST)
        names = _names(cached.value) if cached else []
        if name in names:
            return
        value = dump(sorted([*(known for known in names if cache.get(known)), name]))
        done = cache.replace(LIST, value, cached.token, LIST_S) if cached else cache.add(LIST, value, LIST_S)
        if done is not None:
            return


def living(cache: Cache) -> dict[str, Sign]:
    """The workers that gave a sign lately, by name. What is not a worker's sign is passed over. Raises
    BackendUnavailable."""
    cached = cache.get(LIST)
    found = {name: cache.get(name) for name in (_names(cached.value) if cached else [])}
    signs = {name: read_sign(entry.value) for name, entry in found.items() if entry is not None}
    return {name: sign for name, sign in signs.items() if sign is not None}


def read_sign(value: bytes) -> Sign | None:
    try:
        return _SIGN.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def show(position: Position) -> str:
    return f"{position.topic}/{position.partition}"


def positions(told: Mapping[str, int]) -> dict[Position, int]:
    """By position, what a sign tells by its name."""
    found = {}
    for name, offset in told.items():
        topic, _, partition = name.rpartition("/")
        if partition.isdecimal():
            found[Position(topic, int(partition))] = offset
    return found


def _names(value: bytes) -> list[str]:
    try:
        return _NAMES.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


_SIGN = msgspec.json.Decoder(Sign)
_NAMES: "msgspec.json.Decoder[list[str]]" = msgspec.json.Decoder(
    Annotated[list[Annotated[str, msgspec.Meta(pattern=r"^worker:[\w.:-]{1,150}\Z")]], msgspec.Meta(max_length=1_000)]
)
