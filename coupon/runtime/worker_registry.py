"""Living workers and their reported state: a cache entry for each, and one with the list of their names.

The entries are sealed, as all in the cache, and a hint. A worker without an entry may live: the cache is unavailable or
was emptied, or the worker has another secret.
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

from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import Malformed
from coupon.domain.serialization import dump
from coupon.ports.cache import Cache, Cached
from coupon.ports.queue import Position
from coupon.runtime.cache_entries import opened, sealed

LIST = "workers"
LIST_S = 86_400
STALE_S = 15
"""A worker without a heartbeat for so long is expelled from its group, or stuck."""
TRIES = 5
"""Attempts to write the list while other workers write it; the next heartbeat tries again."""
_NUMBERS = itertools.count(1)
_Word = Annotated[str, msgspec.Meta(max_length=300)]


class Sign(msgspec.Struct, kw_only=True):
    """A worker's heartbeat: its state ``at`` a time in seconds.

    By ``topic/partition``: ``left_alone`` has the reason why it is paused. ``delivered`` has the offset before which
    each message is applied, dead-lettered or deferred."""

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
    """The version of the installed package ``coupon``."""
    try:
        return version("coupon")
    except PackageNotFoundError:  # a copy of the sources
        return "unknown"


def new_name() -> str:
    """A name for one worker: no other worker has it, on any machine."""
    host = re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:100]
    return f"worker:{host}:{os.getpid()}:{next(_NUMBERS)}"


def publish_sign(cache: Cache, code_deriver: CodeDeriver, name: str, sign: Sign) -> None:
    """Write the heartbeat, which expires after ``STALE_S``, and list the worker. Raises BackendUnavailable."""
    cache.put(name, sealed(code_deriver, name, msgspec.json.encode(sign)), STALE_S)
    for _ in range(TRIES):
        cached = cache.get(LIST)
        names = _names(code_deriver, cached)
        if name in names:
            return
        value = sealed(code_deriver, LIST, dump(sorted([*(each for each in names if cache.get(each)), name])))
        done = cache.replace(LIST, value, cached.token, LIST_S) if cached else cache.add(LIST, value, LIST_S)
        if done is not None:
            return


def living(cache: Cache, code_deriver: CodeDeriver) -> dict[str, Sign]:
    """The latest heartbeats of the workers with this secret, by name. Other entries are ignored. Raises
    BackendUnavailable."""
    entries = {name: cache.get(name) for name in _names(code_deriver, cache.get(LIST))}
    signs = {name: _sign(code_deriver, name, entry) for name, entry in entries.items()}
    return {name: sign for name, sign in signs.items() if sign is not None}


def read_sign(value: bytes) -> Sign | None:
    try:
        return _SIGN.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def show(position: Position) -> str:
    return f"{position.topic}/{position.partition}"


def positions(offsets: Mapping[str, int]) -> dict[Position, int]:
    """The offsets by Position instead of ``topic/partition``. Other names are ignored."""
    by_position = {}
    for name, offset in offsets.items():
        topic, _, partition = name.rpartition("/")
        if partition.isdecimal():
            by_position[Position(topic, int(partition))] = offset
    return by_position


def _sign(code_deriver: CodeDeriver, name: str, cached: Cached | None) -> Sign | None:
    try:
        return None if cached is None else read_sign(opened(code_deriver, name, cached.value))
    except Malformed:
        return None


def _names(code_deriver: CodeDeriver, cached: Cached | None) -> list[str]:
    try:
        return [] if cached is None else _NAMES.decode(opened(code_deriver, LIST, cached.value))
    except (Malformed, msgspec.DecodeError, UnicodeDecodeError):
        return []


_SIGN = msgspec.json.Decoder(Sign)
_NAMES: "msgspec.json.Decoder[list[str]]" = msgspec.json.Decoder(
    Annotated[list[Annotated[str, msgspec.Meta(pattern=r"^worker:[\w.:-]{1,150}\Z")]], msgspec.Meta(max_length=1_000)]
)
