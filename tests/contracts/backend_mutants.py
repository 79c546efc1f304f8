"""What a stranger's backend may do wrong: our own backends, each with one fault."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import wraps
from typing import Any

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryConsumer, MemoryQueue
from backends.queue.partitions import partition_of
from backends.search.sqlite import COLUMNS, FIELDS, SqliteSearch
from backends.store.sqlite import SqliteStore
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Coupon
from coupon.domain.serialization import document, encode_coupon
from coupon.ports.backend import Backend
from coupon.ports.queue import Delivery, Message, Position
from coupon.ports.search import Query
from coupon.ports.url import Url


def without_timeouts(backend: type[Backend]) -> type[Backend]:
    class WithoutTimeouts(backend):  # type: ignore[misc,valid-type]
        @classmethod
        def from_url(cls, url: Url) -> Any:
            return super().from_url(Url(re.sub(r"timeout_s=[0-9.]+", "timeout_s=20", str(url))))

    return WithoutTimeouts


def connecting_in_from_url(backend: type[Backend]) -> type[Backend]:
    class Connecting(backend):  # type: ignore[misc,valid-type]
        @classmethod
        def from_url(cls, url: Url) -> Any:
            opened = super().from_url(url)
            with suppress(BackendUnavailable):
                opened.ping()
            return opened

    return Connecting


def connecting_in_init(backend: type[Backend]) -> type[Backend]:
    class Connecting(backend):  # type: ignore[misc,valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            with suppress(BackendUnavailable):
                self.ping()

    return Connecting


def letting_timeouts_through(backend: type[Backend]) -> type[Backend]:
    """Most of the driver's errors are translated, and those of a server that is away are. Its timeouts are not."""

    class Letting(backend):  # type: ignore[misc,valid-type]
        pass

    for name in dir(backend):
        method = getattr(backend, name)
        if not name.startswith("_") and callable(method) and name not in ("from_url", "close", "consumer"):
            setattr(Letting, name, _letting_through(method))
    return Letting


def _letting_through(method: Any) -> Any:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except BackendUnavailable as error:
            cause: BaseException | None = error
            while cause is not None:
                if "imeout" in type(cause).__name__:
                    raise cause from None
                cause = cause.__cause__ or cause.__context__
            raise

    return call


class TwoStepRemove(MemoryCache):
    def remove(self, key: str, token: Any) -> bool:
        found = self.get(key)
        if found is None or found.token != token:
            return False
        self.delete_many([key])
        return True


class TwoStepReplace(MemoryCache):
    def replace(self, key: str, value: bytes, token: Any, ttl_s: int) -> Any:
        found = self.get(key)
        if found is None or found.token != token:
            return None
        self.put(key, value, ttl_s)
        written = self.get(key)
        return written and written.token


class TwoStepPublish(MemoryQueue):
    """The end is read, and written one higher."""

    def publish(self, messages: Sequence[Message]) -> None:
        for topic, key, value in messages:
            position = Position(topic, partition_of(key, self.partitions_of(topic)))
            end = self.ends([topic])[position]
            self.logs[position].append(Delivery(*position, end, key, value))


class TwoStepCommit(MemoryQueue):
    """Each partition is committed by itself."""

    def consumer(self, topics: Sequence[str], group: str) -> MemoryConsumer:
        consumer = super().consumer(topics, group)
        commit = consumer.commit

        def one_by_one(positions: Any) -> None:
            for position, offset in positions.items():
                commit({position: offset})

        consumer.commit = one_by_one  # type: ignore[method-assign]
        return consumer


class TwoStepSave(SqliteStore):
    """The revisions are read and compared, and then the coupons are written."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        there = {code: coupon.revision for code, coupon in self.get_many(each.code for each in coupons).items()}
        passed = [coupon for coupon in coupons if there.get(coupon.code, 0) == coupon.revision - 1]
        rows = [(coupon.code, coupon.revision, encode_coupon(coupon).decode()) for coupon in passed]
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as file:
            file.executemany("INSERT OR REPLACE INTO coupons VALUES (?, ?, ?)", rows)
        return {coupon.code for coupon in coupons} - {coupon.code for coupon in passed}


class TwoStepIndex(SqliteSearch):
    """The versions are read and compared, and then the documents are written."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def index_many(self, coupons: Sequence[Coupon]) -> None:
        there = {found["couponCode"]: found["version"] for found in self.find(Query(), 10_000)}
        newer = [document(coupon) for coupon in coupons if there.get(coupon.code, 0) < coupon.version]
        statement = f"INSERT OR REPLACE INTO documents ({COLUMNS}) VALUES ({', '.join('?' * len(FIELDS))})"
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            file.executemany(statement, [tuple(found.values()) for found in newer])
            file.execute("COMMIT")
