"""Records of other kinds than coupons in DynamoDB: a table of their own (decision 22).

The hash key is the kind and one of ``SHARDS`` numbers, which follows from the record's key; the range key is the key.
So a kind is scanned by itself, and its writes are spread.
"""

from collections.abc import Iterable
from zlib import crc32

from backends.store import rows
from backends.store.dynamodb_connection import DynamoConnection
from backends.store.dynamodb_model import Item
from backends.store.dynamodb_table import READ_KEYS, DynamoTable
from backends.store.dynamodb_transactions import Put, put_of
from coupon.domain.errors import BackendRejected
from coupon.ports.store import Record, RecordPage, is_key

SUFFIX = "-records"
SHARDS = 16
"""The number of shards of a kind. Stored records depend on it: with another number they are not found."""
SHARD, KEY = "recordShard", "recordKey"
"""The names of the key's attributes; ``shard`` and ``key`` are reserved words of DynamoDB's."""
ATTRIBUTES = [{"attribute_name": SHARD, "attribute_type": "S"}, {"attribute_name": KEY, "attribute_type": "S"}]
KEY_SCHEMA = [{"attribute_name": SHARD, "key_type": "HASH"}, {"attribute_name": KEY, "key_type": "RANGE"}]


class DynamoRecords:
    """The records of the store whose coupons are in the connection's table."""

    def __init__(self, connection: DynamoConnection) -> None:
        self.table = DynamoTable(connection, connection.table + SUFFIX)

    def put(self, record: Record) -> Put:
        item = _key(record.kind, record.key) | {"revision": {"N": str(record.revision)}, "body": {"S": record.body}}
        return put_of(self.table.name, item, SHARD, record.revision)

    def parts(self, kind: str, keys: Iterable[str]) -> list[list[Item]]:
        """The keys of the records in DynamoDB's form, split for one request each."""
        items = [_key(kind, key) for key in dict.fromkeys(keys) if is_key(key)]
        return [items[first : first + READ_KEYS] for first in range(0, len(items), READ_KEYS)]

    def scan(self, kind: str, limit: int, cursor: str | None) -> RecordPage:
        """Scan shard by shard. A cursor is the shard's number and, in hexadecimal, the key behind which it goes on."""
        shard, behind = (0, "") if cursor is None else _checked(cursor)
        name = _shard(kind, shard)
        scanned = self.table.walk(
            "Query",
            limit,
            {SHARD: {"S": name}, KEY: {"S": behind}} if behind else None,
            KeyConditionExpression=f"{SHARD} = :shard",
            ExpressionAttributeValues={":shard": {"S": name}},
        )
        if scanned.last is not None:
            after: str | None = _cursor(shard, scanned.last[KEY]["S"])
        else:
            after = _cursor(shard + 1, "") if shard + 1 < SHARDS else None
        records, unreadable = read(scanned.items)
        return RecordPage(records, after, unreadable)


def read(items: Iterable[Item]) -> rows.RecordRows:
    return rows.read_records(list(items), _record, lambda item: str(item.get(KEY, {}).get("S")))


def _record(item: Item) -> Record:
    kind, _, _ = item[SHARD]["S"].partition("/")
    revision, body = int(item["revision"]["N"]), item["body"]["S"]
    if revision < 1 or not isinstance(body, str):
        raise ValueError(f"revision {revision}")
    return Record(kind, item[KEY]["S"], revision, body)


def _key(kind: str, key: str) -> Item:
    return {SHARD: {"S": _shard(kind, crc32(key.encode()) % SHARDS)}, KEY: {"S": key}}


def _shard(kind: str, number: int) -> str:
    return f"{kind}/{number:02d}"


def _cursor(shard: int, key: str) -> str:
    return f"{shard}~{key.encode().hex()}"


def _checked(cursor: str) -> tuple[int, str]:
    """The shard and the key of the cursor; raises BackendRejected for one that no scan returned."""
    number, _, key = cursor.partition("~")
    try:
        shard, behind = int(number), bytes.fromhex(key).decode()
    except ValueError:
        shard, behind = -1, ""
    is_given = is_key(behind) or (behind == "" and shard > 0)
    if not (0 <= shard < SHARDS and is_given and _cursor(shard, behind) == cursor):
        raise BackendRejected(f"{cursor!r:.100} is not a cursor of this store")
    return shard, behind
