"""Guesses of coupon codes: a caller that names too many unknown codes is refused for a while, longer each time.

The count is in the cache, so that all processes share it. It is a hint, as all in the cache: without it, each process
counts by itself. A caller that is refused is known to the process, and costs no call.
"""

from hashlib import blake2b
from typing import NamedTuple

import msgspec
import structlog

from coupon.domain.clock import Clock
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import CacheAway, Malformed, TooManyGuesses
from coupon.runtime.cache_entries import CacheOrAway, opened, sealed

MINUTE_MS = 60_000
REFUSED_MAX_MS = 3_600_000
MEMORY_S = 7_200
"""A caller without another unknown code for so long is refused for a minute again."""
TRIES, REFUSED_CALLERS_MAX = 5, 10_000
log = structlog.get_logger("coupon.web")


class Count(NamedTuple):
    """The unknown codes of a caller ``since`` an instant in ms, and until when it is refused for the last time of so
    many."""

    since: int = 0
    codes: int = 0
    refused_until: int = 0
    times: int = 0


class Guesses:
    """Thread-safe. ``per_minute`` unknown codes are taken for mistakes; 0 for any number."""

    def __init__(self, cache: CacheOrAway, code_deriver: CodeDeriver, per_minute: int, clock: Clock) -> None:
        self._cache, self._code_deriver, self._per_minute, self._clock = cache, code_deriver, per_minute, clock
        self._counts: dict[str, Count] = {}
        """Of this process: as of its last unknown code of each caller."""

    def check(self, caller: str) -> None:
        """Raises TooManyGuesses while the caller is refused."""
        if self._counts and (count := self._counts.get(caller)) is not None:
            left_ms = count.refused_until - self._clock()
            if left_ms > 0:
                raise TooManyGuesses(-(-left_ms // 1_000))

    def add(self, caller: str) -> None:
        """The caller has named an unknown code."""
        if not self._per_minute:
            return
        if len(self._counts) >= REFUSED_CALLERS_MAX:
            self._counts.clear()
        self._counts[caller] = self._counted(caller)

    def _counted(self, caller: str) -> Count:
        """The count with one more, in the cache as well where that answers."""
        name = f"guesses:{blake2b(caller.encode(), digest_size=16).hexdigest()}"
        after = Count()
        try:
            for _ in range(TRIES):
                cached = self._cache.get(name)
                before = self._read(name, cached.value) if cached else self._counts.get(caller, Count())
                after = self._after(before)
                value = sealed(self._code_deriver, name, msgspec.json.encode(after))
                if cached is None:
                    done = self._cache.add(name, value, MEMORY_S)
                else:
                    done = self._cache.replace(name, value, cached.token, MEMORY_S)
                if done is not None:
                    break
        except CacheAway:
            after = self._after(self._counts.get(caller, Count()))
        if after.codes == 0:
            refused_s = (after.refused_until - self._clock()) // 1_000
            log.warning("guesses refused", caller=caller, refused_s=refused_s, times=after.times)
        return after

    def _after(self, before: Count) -> Count:
        now = self._clock()
        if now < before.refused_until:  # by another process; this one learns of it
            return before
        begins = now - before.since >= MINUTE_MS
        codes = 1 if begins else before.codes + 1
        if codes <= self._per_minute:
            return before._replace(since=now if begins else before.since, codes=codes)
        refused_ms = min(MINUTE_MS << min(before.times, 10), REFUSED_MAX_MS)
        return Count(now, 0, now + refused_ms, before.times + 1)

    def _read(self, name: str, value: bytes) -> Count:
        try:
            return _DECODER.decode(opened(self._code_deriver, name, value))
        except (Malformed, msgspec.DecodeError):
            return Count()


_DECODER = msgspec.json.Decoder(Count)
