"""Reading a table of DynamoDB's: requests whose responses are checked, until all keys are read or time is over."""

import math
from typing import Any

import msgspec

from backends.store.dynamodb_connection import DynamoConnection, Patience
from backends.store.dynamodb_model import Item
from coupon.domain.errors import BackendUnavailable

READ_KEYS = 100


class _Keys(msgspec.Struct, rename={"keys": "Keys"}):
    keys: list[Item]


class _Read(msgspec.Struct, rename={"found": "Responses", "left": "UnprocessedKeys"}):
    """By table, the items that exist, and the keys that DynamoDB has not read yet."""

    found: dict[str, list[Item]]
    left: dict[str, _Keys] = {}


class Scanned(msgspec.Struct, rename={"items": "Items", "last": "LastEvaluatedKey"}):
    """Some items of a scan or a query, and the key of the last one when there may be more."""

    items: list[Item]
    last: dict[str, dict[str, str]] | None = None


_READ, _SCANNED = msgspec.json.Decoder(_Read), msgspec.json.Decoder(Scanned)


class DynamoTable:
    """One table, by its name."""

    def __init__(self, connection: DynamoConnection, name: str) -> None:
        self.name = name
        self._connection = connection

    def read(self, keys: list[Item], longest_s: float = math.inf) -> list[Item]:
        """The items that exist, of up to READ_KEYS keys."""
        patience, items = self._connection.patience(longest_s), list[Item]()
        while keys:
            some, keys = self.read_once(keys, patience)
            items += some
            if keys:
                patience.pause(BackendUnavailable(f"DynamoDB table {self.name} left {len(keys)} keys unread"))
        return items

    def read_once(self, keys: list[Item], patience: Patience) -> tuple[list[Item], list[Item]]:
        """Make one request. Returns the items that exist, and the keys that DynamoDB has not read yet."""
        by_table = {self.name: {"Keys": keys, "ConsistentRead": True}}
        answer = self._connection.call("BatchGetItem", patience, _READ, {"RequestItems": by_table})
        left = answer.left.get(self.name)
        return answer.found.get(self.name, []), left.keys if left else []

    def walk(self, operation: str, limit: int, behind: Item | None, **request: Any) -> Scanned:
        """One request of a scan or a query."""
        start = {"ExclusiveStartKey": behind} if behind else {}
        named = {"TableName": self.name, "ConsistentRead": True, "Limit": limit}
        return self._connection.call(operation, self._connection.patience(), _SCANNED, named | start | request)
