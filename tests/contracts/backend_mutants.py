"""What a stranger's backend may do wrong: our own backends, each with one fault."""

import itertools
import socket
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from functools import wraps
from typing import Any

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryConsumer, MemoryQueue
from backends.queue.partitions import partition_of
from backends.queue.sqlite import SqliteQueue
from backends.search.sqlite import COLUMNS, FIELDS, SqliteSearch
from backends.store.dynamodb import DynamoStore
from backends.store.dynamodb_connection import DynamoConnection
from backends.store.sqlite import SqliteStore
from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Coupon
from coupon.domain.serialization import document, encode_coupon
from coupon.ports.backend import Backend
from coupon.ports.queue import Delivery, Message, Position
from coupon.ports.search import Query
from coupon.ports.store import Group
from coupon.ports.url import Url


def without_timeouts(backend: type[Backend]) -> type[Backend]:
    class WithoutTimeouts(backend):  # type: ignore[misc,valid-type]
        @classmethod
        def from_url(cls, url: Url) -> Any:
            url.query = url.query | {"timeout_s": "20"}
            return super().from_url(url)

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


def waiting_in_from_url(backend: type[Backend]) -> type[Backend]:
    """For a word of its server, without a timeout."""

    class Waiting(backend):  # type: ignore[misc,valid-type]
        @classmethod
        def from_url(cls, url: Url) -> Any:
            [address] = url.addresses(0)
            with socket.create_connection(address) as connection:
                connection.recv(1)
            return super().from_url(url)

    return Waiting


def sending_again(backend: type[Backend], method: str) -> type[Backend]:
    """When the reply was lost, the method is called a second time, which meets the first one's write."""

    class SendingAgain(backend):  # type: ignore[misc,valid-type]
        pass

    def call(*arguments: Any) -> Any:
        try:
            return getattr(backend, method)(*arguments)
        except BackendUnavailable:
            return getattr(backend, method)(*arguments)

    setattr(SendingAgain, method, call)
    return SendingAgain


def asking_first(backend: type[Backend], method: str) -> type[Backend]:
    """Whether the server lives, before each call of the method."""

    class AskingFirst(backend):  # type: ignore[misc,valid-type]
        pass

    def call(self: Any, *arguments: Any) -> Any:
        self.ping()
        return getattr(backend, method)(self, *arguments)

    setattr(AskingFirst, method, call)
    return AskingFirst


def closing_nothing(backend: type[Backend]) -> type[Backend]:
    class ClosingNothing(backend):  # type: ignore[misc,valid-type]
        def close(self) -> None:
            pass

        def really_close(self) -> None:
            super().close()

    return ClosingNothing


def really_close(backend: Any) -> None:
    (backend.really_close if hasattr(backend, "really_close") else backend.close)()


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


class SavingWithoutToken(DynamoStore):
    """A request whose reply was lost is sent again, and DynamoDB cannot know it: its own write fails its condition."""

    def __init__(self, connection: DynamoConnection, in_flight: int) -> None:
        super().__init__(connection, in_flight)
        call = connection.call

        def without_token(operation: str, patience: Any, answer: Any, request: dict[str, Any]) -> Any:
            request.pop("ClientRequestToken", None)
            return call(operation, patience, answer, request)

        connection.call = without_token  # type: ignore[method-assign]


class TwoStepTables(SqliteStore):
    """Looks for a table, and then makes it."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, **options)
        self.path = path

    def create(self) -> None:
        super().create()
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as file:
            if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'campaigns'").fetchall():
                time.sleep(0.3)
                file.execute("CREATE TABLE campaigns (name TEXT PRIMARY KEY)")


class TwoStepTopics(SqliteQueue):
    """Looks for each topic, and then makes it."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, **options)
        self.path = path

    def create(self, topics: Iterable[str]) -> None:
        super().create([])
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as file:
            for topic in topics:
                if not file.execute("SELECT 1 FROM partitions WHERE topic = ?", (topic,)).fetchall():
                    time.sleep(0.1)
                    rows = [(topic, partition) for partition in range(4)]
                    file.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", rows)


class DeadlockingGroups(SqliteStore):
    """As a database says it of transactions that lock the same rows in another order."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.calls = itertools.count()

    def save_groups(self, groups: Sequence[Group]) -> set[int]:
        if next(self.calls) == 20:
            raise BackendUnavailable("a deadlock was detected")
        return super().save_groups(groups)


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
