"""Search in MongoDB, and in FerretDB, with what both know: no transaction, no conditional update, no rename
(decision 29).

A generation is a collection (``mongodb_rows``). A log says which ones are in force (``mongodb_generations``).

No document that is indexed during a rebuild is lost. A writer looks at the log after it has written, and writes to each
generation that it finds there and has not written to. A rebuild announces the next generation before it reads the
store. So a coupon whose writer did not see the next generation was saved before that read.

Queries never see a generation that is half built, or half deleted. They read the present one, which becomes so by one
row of the log. The one before it is deleted ``LOOK_S`` later. A query that took longer since its look at the log looks
again. It is repeated when its generation is not the present one any more.

A writer that is late makes a deleted collection once more. It finds that at its look, and deletes the collection. What
a killed writer left behind is deleted by the next rebuild.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self, TypeVar

import pymongo

from backends.search import mongodb_generations as log
from backends.search.mongodb_client import MongoConnection
from backends.search.mongodb_generations import Generations
from backends.search.mongodb_rows import Rows
from backends.tls import OPTIONS as TLS
from backends.tls import trust
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable, ConfigurationError
from coupon.domain.model import Coupon
from coupon.domain.serialization import Document
from coupon.ports.search import Counts, Query, Rebuild, Search
from coupon.ports.url import Url

NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
Found = TypeVar("Found")


class MongoSearch(Search):
    """Thread-safe. Reads and writes at the primary, which the driver finds."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        database: str = "coupon",
        index: str = "coupon",
        timeout_s: float = 2.0,
        tls: bool = False,
        credentials: tuple[str, str] | None = None,
        auth_source: str = "admin",
        ca: str = "",
    ) -> None:
        trust(tls, ca)  # a file that cannot be read is found here
        self._timeout_s = timeout_s
        self._connection = MongoConnection(addresses, database, timeout_s, tls, credentials, auth_source, ca)
        self.generations = Generations(lambda: self._connection.database, index)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        options = url.options(index="coupon", timeout_s=2.0, auth_source="admin", **TLS)
        database = url.path or "coupon"
        for what, name in (("database", database), ("index", options["index"])):
            if NAME.fullmatch(name) is None:
                raise ConfigurationError(f"the {what} {name!r} in {url} is not up to 63 letters, digits, - and _")
        credentials = (url.user, url.password) if url.user else None
        return cls(url.addresses(27017), database, credentials=credentials, **options)

    def ping(self) -> None:
        with self._connection.errors(), self._connection.soon():
            self._generation_of(self.generations.look())

    def close(self) -> None:
        self._connection.close()

    def create(self) -> None:
        with self._connection.errors():
            while (state := self.generations.look().state).present is None:
                self.generations.change(state, self.generations.new_name(), state.next)
            for generation in state.generations:
                self._rows(generation).make_indexes()

    def index_many(self, coupons: Sequence[Coupon]) -> None:
        with self._connection.errors():
            written, generations = set[str](), self.generations.recent().state.generations
            while missing := set(generations) - written:
                for generation in missing:
                    self._rows(generation).write(coupons)
                written |= missing
                generations = self.generations.look().state.generations
            if not generations:
                raise _no_index()
            self._drop(written.difference(generations))

    def find(self, query: Query, limit: int, after: str = "") -> list[Document]:
        return self._read(lambda rows: rows.find(query, limit, after))

    def count(self) -> Counts:
        with pymongo.timeout(self._timeout_s):
            return self._read(Rows.count)

    def _read(self, read: Callable[[Rows], Found]) -> Found:
        """What is read from the present generation, which must still be that afterwards."""
        with self._connection.errors():
            look = self.generations.recent()
            while True:
                generation = self._generation_of(look)
                found = read(self._rows(generation))
                if look.is_recent or (look := self.generations.look()).state.present == generation:
                    return found

    @contextmanager
    def rebuild(self) -> Iterator[Rebuild]:
        with self._connection.errors():
            generation = self._begin()
        try:
            yield _MongoRebuild(self, generation)
            with self._connection.errors():
                self._promote(generation)
        except BaseException:
            with suppress(BackendError), self._connection.errors():
                self._discard(generation)
            raise

    def add_many(self, coupons: Sequence[Coupon], generation: str) -> None:
        """Write to the next generation of a rebuild. Raises BackendRejected when it is that no more."""
        with self._connection.errors():
            self._rows(generation).write(coupons)
            if self.generations.look().state.next != generation:
                self._drop([generation])
                raise _overtaken()

    def _begin(self) -> str:
        """Announce the next generation, make it, and delete what earlier rebuilds left."""
        generation = self.generations.new_name()
        while not self.generations.change(state := self.generations.look().state, state.present, generation):
            pass
        self._rows(generation).make_indexes()
        self._drop(self.generations.dead())
        return generation

    def _promote(self, generation: str) -> None:
        while (state := self.generations.look().state).next == generation:
            if self.generations.change(state, generation, None):
                self.generations.look()
                time.sleep(log.LOOK_S * 1.1)  # processes whose last look was before the change may read the past one
                self._drop([] if state.present is None else [state.present])
                return
        raise _overtaken()

    def _discard(self, generation: str) -> None:
        """Delete the generation, unless it became the present one."""
        while (state := self.generations.look().state).next == generation:
            self.generations.change(state, state.present, None)
        if state.present != generation:
            self._drop([generation])

    def _drop(self, generations: Sequence[str] | set[str]) -> None:
        for generation in generations:
            self._connection.database.drop_collection(generation)

    def _rows(self, generation: str) -> Rows:
        return Rows(self._connection.database[generation])

    def _generation_of(self, look: log.Look) -> str:
        if look.state.present is None:
            raise _no_index()
        return look.state.present


class _MongoRebuild(Rebuild):
    def __init__(self, search: MongoSearch, generation: str) -> None:
        self._search, self._generation = search, generation

    def add_many(self, coupons: Sequence[Coupon]) -> None:
        self._search.add_many(coupons, self._generation)


def _no_index() -> BackendUnavailable:
    return BackendUnavailable("there is no index: run `coupon init`")


def _overtaken() -> BackendRejected:
    return BackendRejected("another rebuild was begun, which discarded this one")
