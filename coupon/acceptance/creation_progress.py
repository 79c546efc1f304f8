"""How many coupons of a creation exist, from the markers in the store, without reading thousands of them each time.

A marker that was seen stays in the store, so a process remembers it. Of the others it reads a few, spread over all, and
more of them only while it finds some. It stops at a marker that is missing: then the creation is not complete. Or none
is left: then it is complete.

The number is certain, and may lag behind. It never decreases while the cache works, where the web processes share the
largest number that any has reported (decision 19).
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import structlog

from coupon.applying import safe_reads as reading
from coupon.domain.chunks import Chunk, split
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendError, Malformed
from coupon.domain.model import CHUNK
from coupon.ports.cache import Cache
from coupon.ports.store import Store
from coupon.runtime.cache_entries import opened, sealed

FEW, MANY = 16, 100
"""Markers that are read at once: at first, and at most."""
WORTH_IT = 8
"""More markers are read when at least one of so many was in the store."""
ENOUGH = 400
"""After so many markers, reading stops at the first that is missing. All are read when all exist, once a process."""
REMEMBERED, REMEMBERED_COMPLETE = 200, 10_000
"""So many creations are remembered by a process: under way with the markers it has seen, and complete."""
TRIES = 3
REPORTED_TTL_S = 3_600
log = structlog.get_logger("coupon.progress")


class _Seen:
    """What a process knows of one creation: the chunks whose markers it has not seen."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.unseen: Sequence[int] = range(-(-amount // CHUNK))
        self.looks = 0
        self._lock = threading.Lock()

    @property
    def created(self) -> int:
        unseen = self.unseen
        if not unseen:
            return self.amount
        last_size = min(CHUNK, self.amount - unseen[-1] * CHUNK)
        return self.amount - (len(unseen) - 1) * CHUNK - last_size

    def some(self, number: int) -> list[Chunk]:
        """So many of the unseen, spread over them; others each time."""
        unseen = self.unseen
        step = -(-len(unseen) // number)
        self.looks += 1
        chosen = unseen[self.looks % step :: step]
        return [Chunk(chunk * CHUNK, min(CHUNK, self.amount - chunk * CHUNK)) for chunk in chosen]

    def saw(self, found: Sequence[Chunk]) -> None:
        gone = {chunk.first // CHUNK for chunk in found}
        if gone:
            with self._lock:
                self.unseen = [chunk for chunk in self.unseen if chunk not in gone]


class CreationProgress:
    """Of all creations that this process was asked about. Thread-safe."""

    def __init__(self, code_deriver: CodeDeriver, store: Store, cache: Cache) -> None:
        self._code_deriver, self._store, self._cache = code_deriver, store, cache
        self._seen: OrderedDict[tuple[str, int], _Seen] = OrderedDict()
        self._complete: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._lock = threading.Lock()

    def created(self, operation: str, amount: int) -> int:
        """How many coupons there are for certain; the amount if and only if all are. Raises BackendUnavailable."""
        seen = self._of(operation, amount)
        self._look(operation, seen)
        created = seen.created
        if created == amount:
            self._keep_complete(operation, amount)
        elif amount > FEW * CHUNK:
            created = self._most_reported(operation, created, amount)
        return created

    def missing(self, operation: str, amount: int) -> list[Chunk]:
        """The chunks that are not (wholly) in the store yet. Raises BackendUnavailable."""
        seen = self._of(operation, amount)
        unseen = set(seen.unseen)
        asked = [chunk for chunk in split(amount) if chunk.first // CHUNK in unseen]
        found = self._found(operation, asked)
        seen.saw(found)
        return sorted(set(asked) - set(found))

    def _look(self, operation: str, seen: _Seen) -> None:
        """Read some markers, and more as long as that finds many."""
        number, read, is_missing = FEW, 0, False
        while seen.unseen and not (is_missing and read >= ENOUGH):
            asked = seen.some(number)
            found = self._found(operation, asked)
            seen.saw(found)
            if len(found) * WORTH_IT < len(asked):
                return
            read, is_missing = read + len(asked), is_missing or len(found) < len(asked)
            number = min(number * 2, MANY)

    def _found(self, operation: str, asked: Sequence[Chunk]) -> list[Chunk]:
        markers = {chunk: chunk.marker(operation, self._code_deriver) for chunk in asked}
        stored = reading.read(self._store, markers.values())
        return [chunk for chunk, marker in markers.items() if marker in stored.coupons or marker in stored.unreadable]

    def _of(self, operation: str, amount: int) -> _Seen:
        key = (operation, amount)
        with self._lock:
            seen = self._seen.pop(key, None) or _Seen(amount)
            if key in self._complete:
                self._complete.move_to_end(key)
                seen.unseen = ()
                return seen
            self._seen[key] = seen
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return seen

    def _keep_complete(self, operation: str, amount: int) -> None:
        with self._lock:
            self._seen.pop((operation, amount), None)
            self._complete[operation, amount] = None
            while len(self._complete) > REMEMBERED_COMPLETE:
                self._complete.popitem(last=False)

    def _most_reported(self, operation: str, created: int, amount: int) -> int:
        """What any web process has reported already, if that was more. A hint: it never makes a creation complete."""
        key = f"created:{operation}"
        try:
            for _ in range(TRIES):
                cached = self._cache.get(key)
                reported = 0 if cached is None else self._reported(key, cached.value)
                if created <= reported < amount:
                    return reported
                value = sealed(self._code_deriver, key, str(created).encode())
                token = (
                    self._cache.add(key, value, REPORTED_TTL_S)
                    if cached is None
                    else self._cache.replace(key, value, cached.token, REPORTED_TTL_S)
                )
                if token is not None:
                    break
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))
        return created

    def _reported(self, key: str, value: bytes) -> int:
        try:
            return int(opened(self._code_deriver, key, value))
        except (Malformed, ValueError):
            return 0
