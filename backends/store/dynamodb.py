"""The store on DynamoDB. A coupon is an item. A transaction has up to a hundred conditional writes, or one group."""

import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from pynamodb.constants import PAY_PER_REQUEST_BILLING_MODE
from pynamodb.exceptions import TableError

from backends.store import dynamodb_records, rows
from backends.store.cursor import checked, cursor_of
from backends.store.dynamodb_connection import FAILURES, DynamoConnection, code_of
from backends.store.dynamodb_model import Item, coupon, item
from backends.store.dynamodb_reads import Answer, CoalescedReads
from backends.store.dynamodb_records import DynamoRecords
from backends.store.dynamodb_table import READ_KEYS, DynamoTable
from backends.store.dynamodb_transactions import Put, Transactions, put_of, transactions
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable, ConfigurationError
from coupon.domain.model import Coupon
from coupon.ports.store import Group, Page, Record, RecordPage, Store, check_groups, check_kind
from coupon.ports.url import Url

FEW = 10
"""Reads of up to so many coupons are combined with those of other threads."""
PING_TIMEOUT_S = 1.0
TABLE_TIMEOUT_S = 60.0
Part = TypeVar("Part")
Result = TypeVar("Result")


class DynamoStore(Store):
    """Writes in transactions: nothing else makes a hundred conditional writes in one round trip. One failed condition
    cancels the whole transaction. Then that write is taken out, and the rest is sent again."""

    def __init__(self, connection: DynamoConnection, in_flight: int = 5) -> None:
        self._connection = connection
        self._table, self._records = DynamoTable(connection, connection.table), DynamoRecords(connection)
        self._transactions = Transactions(connection)
        self._in_flight = in_flight
        self._shared = CoalescedReads(self._ask, self._read, connection.timeout_s)

    @classmethod
    def from_url(cls, url: Url) -> Self:
        options = url.options(table="Coupon", region="", timeout_s=2.0, in_flight=5, tls=False)
        connection = DynamoConnection(
            _table(options["table"]), options["timeout_s"], **_place(url, options["region"], tls=options["tls"])
        )
        return cls(connection, options["in_flight"])

    def ping(self) -> None:
        try:
            self._items(["PING"], PING_TIMEOUT_S)
        except BackendRejected as error:
            raise BackendUnavailable(str(error)) from error

    def close(self) -> None:
        self._connection.close()

    def create(self) -> None:
        try:
            self._create_table()
        except FAILURES as error:
            raise self._connection.failure(error) from error

    def get_many(self, codes: Iterable[str]) -> dict[str, Coupon]:
        distinct = list(dict.fromkeys(codes))
        if 0 < len(distinct) <= FEW:
            self._connection.model()  # opened before the time counts
            return {coupon.code: coupon for coupon in self._shared.read(distinct)}
        reads = self._at_once(self._items, list(_parts(distinct)))
        return _coupons([item for read in reads for item in read]).by_code()

    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        puts = [self._put(coupon) for coupon in coupons]
        return set().union(*self._at_once(self._transactions.write_each, list(transactions(puts))))

    def scan(self, limit: int, cursor: str | None = None) -> Page:
        behind = None if cursor is None else _key(_text(checked(cursor)))
        scanned = self._table.walk("Scan", limit, behind)
        coupons, unreadable = _coupons(scanned.items)
        return Page(coupons, cursor_of(scanned.last["couponCode"]["S"].encode()) if scanned.last else None, unreadable)

    def get_records(self, kind: str, keys: Iterable[str]) -> dict[str, Record]:
        check_kind(kind)
        reads = self._at_once(self._records.table.read, self._records.parts(kind, keys))
        return dynamodb_records.read(item for read in reads for item in read).by_key()

    def save_groups(self, groups: Sequence[Group]) -> set[int]:
        check_groups(groups)
        puts = [[self._put(member) for member in group] for group in groups]
        written = self._at_once(self._transactions.write_all, puts)
        return {index for index, is_written in enumerate(written) if not is_written}

    def scan_records(self, kind: str, limit: int, cursor: str | None = None) -> RecordPage:
        check_kind(kind)
        return self._records.scan(kind, limit, cursor)

    def _create_table(self) -> None:
        model = self._connection.model()
        self._make_table(model.create_table)  # does nothing if it exists
        records, connection = self._records.table.name, self._connection.driver()
        self._make_table(
            lambda: connection.create_table(
                records,
                attribute_definitions=dynamodb_records.ATTRIBUTES,
                key_schema=dynamodb_records.KEY_SCHEMA,
                billing_mode=PAY_PER_REQUEST_BILLING_MODE,
            )
        )
        deadline = time.monotonic() + TABLE_TIMEOUT_S
        for table in (self._connection.table, records):
            while connection.describe_table(table)["TableStatus"] != "ACTIVE":
                if time.monotonic() > deadline:
                    raise BackendUnavailable(f"DynamoDB table {table} is still being made")
                time.sleep(0.2)

    def _make_table(self, make: Callable[[], Any]) -> None:
        try:
            make()
        except TableError as error:
            if code_of(error) != "ResourceInUseException":  # it exists, or another process was faster
                raise

    def _put(self, member: Coupon | Record) -> Put:
        if isinstance(member, Coupon):
            return put_of(self._connection.table, item(member), "couponCode", member.revision)
        return self._records.put(member)

    def _read(self, codes: list[str], longest_s: float) -> list[Coupon]:
        return list(_coupons(self._items(codes, longest_s)).by_code().values())

    def _items(self, codes: list[str], longest_s: float = math.inf) -> list[Item]:
        return self._table.read([_key(code) for code in codes], longest_s)

    def _ask(self, codes: list[str], longest_s: float) -> Answer:
        patience, answer = self._connection.patience(longest_s), Answer([], set())
        for part in _parts(codes):
            items, left = self._table.read_once([_key(code) for code in part], patience)
            answer.found.extend(_coupons(items).by_code().values())
            answer.left.update(key["couponCode"]["S"] for key in left)
        return answer

    def _at_once(self, step: Callable[[Part], Result], parts: list[Part]) -> list[Result]:
        """The results of the steps, some in parallel. After the first failure none is started, and all have ended."""
        if len(parts) < 2:
            return [step(part) for part in parts]
        failed = threading.Event()

        def guarded(part: Part) -> Result:
            if failed.is_set():
                raise BackendUnavailable("not begun: an earlier part failed")
            try:
                return step(part)
            except BackendError:
                failed.set()
                raise

        with ThreadPoolExecutor(self._in_flight, "dynamodb") as pool:
            return list(pool.map(guarded, parts))


def _table(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{3,247}", name):  # DynamoDB takes 255; the table of records has a suffix
        raise ConfigurationError(f"table={name!r} is not a name of 3 to 247 letters, digits, dashes, dots, underlines")
    return name


def _place(url: Url, region: str, *, tls: bool) -> dict[str, Any]:
    """The endpoint and the credentials. Without TLS it is an emulator, which takes any keys."""
    if not url.hosts and not region:
        raise ConfigurationError("names neither a host nor a region: dynamodb://127.0.0.1:8000 or dynamodb://?region=…")
    if len(url.hosts) > 1:
        raise ConfigurationError("names several hosts: DynamoDB has one address")
    if bool(url.user) != bool(url.password):
        raise ConfigurationError("names a key without its secret, or a secret without its key")
    place: dict[str, Any] = {"region": region or "local"}
    if url.hosts:
        host, port = url.addresses(443 if tls else 8000)[0]
        place["host"] = f"{'https' if tls else 'http'}://{host}:{port}"
    if url.user or (url.hosts and not tls):
        place["aws_access_key_id"] = url.user or "local"
        place["aws_secret_access_key"] = url.password or "local"
    return place


def _coupons(items: Sequence[Item]) -> rows.Rows:
    return rows.read(items, coupon, lambda item: str(item.get("couponCode", {}).get("S")))


def _text(code: bytes) -> str:
    try:
        return code.decode()
    except UnicodeDecodeError as error:
        raise BackendRejected(f"{code!r} is no key of DynamoDB's") from error


def _key(code: str) -> Item:
    return {"couponCode": {"S": code}}


def _parts(codes: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(codes), READ_KEYS):
        yield codes[first : first + READ_KEYS]
