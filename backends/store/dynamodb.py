"""The store on DynamoDB: an item a coupon, a condition a write, a transaction for each hundred of them."""

import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

import msgspec
from pynamodb.exceptions import TableError

from backends.store import rows
from backends.store.cursor import checked, given
from backends.store.dynamodb_connection import FAILURES, Cancelled, DynamoConnection, Patience, code_of
from backends.store.dynamodb_model import Item, coupon, item, size
from backends.store.dynamodb_reads import Answer, CoalescedReads
from coupon.domain.model import Coupon
from coupon.ports.backend import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.store import Page, Store
from coupon.ports.url import ConfigurationError, Url

TRANSACTION_ITEMS, TRANSACTION_BYTES = 100, 4_000_000
READ_KEYS = 100
FEW = 10
"""Reads of up to so many are shared with those of other threads."""
PING_TIMEOUT_S = 1.0
TABLE_TIMEOUT_S = 60.0
CONFLICT = "ConditionalCheckFailed"
PASSING = {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"}
"""Reasons for which a transaction is cancelled now and applied a moment later."""

Part = TypeVar("Part")
Answered = TypeVar("Answered")
Result = TypeVar("Result")


class _Keys(msgspec.Struct, rename={"keys": "Keys"}):
    keys: list[Item]


class _Read(msgspec.Struct, rename={"found": "Responses", "left": "UnprocessedKeys"}):
    """The items that are there, and the keys that DynamoDB has left for later, by table."""

    found: dict[str, list[Item]]
    left: dict[str, _Keys] = {}


class _Text(msgspec.Struct, rename={"text": "S"}):
    text: str


class _Place(msgspec.Struct, rename={"code": "couponCode"}):
    code: _Text


class _Scanned(msgspec.Struct, rename={"items": "Items", "last": "LastEvaluatedKey"}):
    items: list[Item]
    last: _Place | None = None


class DynamoStore(Store):
    """Transactions, because nothing else writes a hundred items on condition in one round trip. What fails one item's
    condition cancels all of them: it is taken out, and the others are sent again."""

    def __init__(self, connection: DynamoConnection, in_flight: int = 5) -> None:
        self._connection = connection
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
        wanted = list(dict.fromkeys(codes))
        if 0 < len(wanted) <= FEW:
            self._connection.model()  # opened before the time counts
            return {found.code: found for found in self._shared.read(wanted)}
        return _coupons([item for read in self._at_once(self._items, list(_parts(wanted))) for item in read]).by_code()

    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        puts = [_put(self._connection.table, coupon) for coupon in coupons]
        return set().union(*self._at_once(self._write, list(_transactions(puts))))

    def scan(self, limit: int, cursor: str | None = None) -> Page:
        behind = {} if cursor is None else {"ExclusiveStartKey": _key(_text(checked(cursor)))}
        answer = self._ask_for(
            _Scanned,
            "Scan",
            self._connection.patience(),
            TableName=self._connection.table,
            ConsistentRead=True,
            Limit=limit,
            **behind,
        )
        coupons, unreadable = _coupons(answer.items)
        return Page(coupons, given(answer.last.code.text.encode()) if answer.last else None, unreadable)

    def _create_table(self) -> None:
        model = self._connection.model()
        try:
            model.create_table()  # nothing, if it is there
        except TableError as error:
            if code_of(error) != "ResourceInUseException":  # another process was quicker
                raise
        deadline = time.monotonic() + TABLE_TIMEOUT_S
        while model.describe_table()["TableStatus"] != "ACTIVE":
            if time.monotonic() > deadline:
                raise BackendUnavailable(f"DynamoDB table {self._connection.table} is still being made")
            time.sleep(0.2)

    def _read(self, codes: list[str], longest_s: float) -> list[Coupon]:
        return list(_coupons(self._items(codes, longest_s)).by_code().values())

    def _items(self, codes: list[str], longest_s: float = math.inf) -> list[Item]:
        patience, keys, items = self._connection.patience(longest_s), [_key(code) for code in codes], []
        while keys:
            read, keys = self._get(keys, patience)
            items += read
            if keys:
                table = self._connection.table
                patience.pause(BackendUnavailable(f"DynamoDB table {table} left {len(keys)} keys unread"))
        return items

    def _ask(self, codes: list[str], longest_s: float) -> Answer:
        patience, answer = self._connection.patience(longest_s), Answer([], set())
        for part in _parts(codes):
            items, left = self._get([_key(code) for code in part], patience)
            answer.found.extend(_coupons(items).by_code().values())
            answer.left.update(key["couponCode"]["S"] for key in left)
        return answer

    def _get(self, keys: list[Item], patience: Patience) -> tuple[list[Item], list[Item]]:
        """One request: the items that are there, and the keys that DynamoDB has left for later."""
        table = self._connection.table
        wanted = {table: {"Keys": keys, "ConsistentRead": True}}
        answer = self._ask_for(_Read, "BatchGetItem", patience, RequestItems=wanted)
        left = answer.left.get(table)
        return answer.found.get(table, []), left.keys if left else []

    def _ask_for(self, kind: type[Answered], operation: str, patience: Patience, **request: Any) -> Answered:
        """The answer, if it is one to that question: else it was somebody else who answered."""
        answer = self._connection.call(operation, patience, **request)
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            table = self._connection.table
            raise BackendUnavailable(f"DynamoDB table {table}: no answer to {operation}: {error}") from error

    def _write(self, puts: list[dict[str, Any]]) -> set[str]:
        """The codes of those whose condition failed; the others are written. Every round that does not write settles at
        least one item, or costs patience: so there is an end."""
        conflicts: set[str] = set()
        patience = self._connection.patience()
        while puts:
            try:
                self._connection.call(
                    "TransactWriteItems",
                    patience,
                    TransactItems=[{"Put": put} for put in puts],
                    ClientRequestToken=secrets.token_hex(16),  # one for all attempts: a lost reply is no conflict
                )
                break
            except Cancelled as cancelled:
                if len(cancelled.reasons) != len(puts):
                    raise BackendUnavailable(f"DynamoDB table {self._connection.table}: {cancelled}") from cancelled
                verdicts = list(zip(puts, cancelled.reasons, strict=True))
                failed = [put for put, reason in verdicts if reason == CONFLICT]
                puts = [put for put, reason in verdicts if reason != CONFLICT]
                conflicts |= {put["Item"]["couponCode"]["S"] for put in failed}
                patience = self._connection.patience() if failed else patience
                self._wait_for(cancelled, patience)
        return conflicts

    def _wait_for(self, cancelled: Cancelled, patience: Patience) -> None:
        """Pause if something passing stood in the way; raise BackendRejected if something that stays."""
        reasons = {reason for reason in cancelled.reasons if reason} - {CONFLICT}
        message = f"DynamoDB table {self._connection.table}: {', '.join(sorted(reasons))}"
        if reasons - PASSING:
            raise BackendRejected(message) from cancelled
        if reasons:
            patience.pause(BackendUnavailable(message))

    def _at_once(self, step: Callable[[Part], Result], parts: list[Part]) -> list[Result]:
        """The results of the steps, some at a time. After the first failure none is begun, and none is left behind."""
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
    if not re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", name):
        raise ConfigurationError(f"table={name!r} is not a name of 3 to 255 letters, digits, dashes, dots, underlines")
    return name


def _place(url: Url, region: str, *, tls: bool) -> dict[str, Any]:
    """Where the table is, and who we are there. Without TLS it is an emulator, which takes any keys."""
    if not url.hosts and not region:
        raise ConfigurationError("names neither a host nor a region: dynamodb://127.0.0.1:8000 or dynamodb://?region=…")
    if len(url.hosts) > 1:
        raise ConfigurationError("names several hosts: DynamoDB has one address")
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


def _put(table: str, coupon: Coupon) -> dict[str, Any]:
    """The write of a coupon, with its condition."""
    put: dict[str, Any] = {"TableName": table, "Item": item(coupon)}
    if coupon.revision == 1:
        return put | {"ConditionExpression": "attribute_not_exists(couponCode)"}
    return put | {
        "ConditionExpression": "revision = :read",
        "ExpressionAttributeValues": {":read": {"N": str(coupon.revision - 1)}},
    }


def _parts(codes: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(codes), READ_KEYS):
        yield codes[first : first + READ_KEYS]


def _transactions(puts: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The puts in order, in as few transactions as DynamoDB allows."""
    transaction: list[dict[str, Any]] = []
    weight = 0
    for put in puts:
        size_bytes = size(put["Item"])
        if transaction and (len(transaction) == TRANSACTION_ITEMS or weight + size_bytes > TRANSACTION_BYTES):
            yield transaction
            transaction, weight = [], 0
        transaction.append(put)
        weight += size_bytes
    if transaction:
        yield transaction
