"""Conditional writes to DynamoDB: transactions of up to a hundred puts, each with its condition."""

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from backends.store.dynamodb_connection import Cancelled, DynamoConnection, Patience
from backends.store.dynamodb_model import Item, size
from coupon.domain.errors import BackendRejected, BackendUnavailable

TRANSACTION_ITEMS, TRANSACTION_BYTES = 100, 4_000_000
CONFLICT = "ConditionalCheckFailed"
PASSING = {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"}
"""Reasons of cancelled transactions that a retry may overcome."""
Put = dict[str, Any]
_WRITTEN = msgspec.json.Decoder(dict[str, Any])


def put_of(table: str, item: Item, key: str, revision: int) -> Put:
    """The write of that revision of the item; ``key`` is an attribute of the table's key."""
    put: Put = {"TableName": table, "Item": item}
    if revision == 1:
        return put | {"ConditionExpression": f"attribute_not_exists({key})"}
    return put | {
        "ConditionExpression": "revision = :read",
        "ExpressionAttributeValues": {":read": {"N": str(revision - 1)}},
    }


class Transactions:
    """Writes puts: each whose condition holds, or all or none."""

    def __init__(self, connection: DynamoConnection) -> None:
        self._connection = connection

    def write_each(self, puts: list[Put]) -> set[str]:
        """Write the puts whose condition holds; returns the codes of the rest. It ends, because each round either
        writes, or takes out at least one put, or uses up patience."""
        conflicts: set[str] = set()
        patience = self._connection.patience()
        while puts:
            reasons = self._try(puts, patience)
            if reasons is None:
                break
            verdicts = list(zip(puts, reasons.reasons, strict=True))
            failed = [put for put, reason in verdicts if reason == CONFLICT]
            puts = [put for put, reason in verdicts if reason != CONFLICT]
            conflicts |= {put["Item"]["couponCode"]["S"] for put in failed}
            patience = self._connection.patience() if failed else patience
            self._wait_for(reasons, patience)
        return conflicts

    def write_all(self, puts: list[Put]) -> bool:
        """False, and nothing is written, when a condition fails."""
        patience = self._connection.patience()
        while (cancelled := self._try(puts, patience)) is not None:
            if CONFLICT in cancelled.reasons:
                return False
            self._wait_for(cancelled, patience)
        return True

    def _try(self, puts: list[Put], patience: Patience) -> Cancelled | None:
        """Write the puts in one transaction. Returns the reasons when it was cancelled, else None."""
        try:
            self._connection.call(
                "TransactWriteItems",
                patience,
                _WRITTEN,
                {
                    "TransactItems": [{"Put": put} for put in puts],
                    "ClientRequestToken": secrets.token_hex(16),  # one for all attempts: a lost reply is no conflict
                },
            )
        except Cancelled as cancelled:
            if len(cancelled.reasons) != len(puts):
                raise BackendUnavailable(f"DynamoDB table {self._connection.table}: {cancelled}") from cancelled
            return cancelled
        return None

    def _wait_for(self, cancelled: Cancelled, patience: Patience) -> None:
        """Pause when a retry may help; raise BackendRejected when it never will."""
        reasons = {reason for reason in cancelled.reasons if reason} - {CONFLICT}
        message = f"DynamoDB table {self._connection.table}: {', '.join(sorted(reasons))}"
        if reasons - PASSING:
            raise BackendRejected(message) from cancelled
        if reasons:
            patience.pause(BackendUnavailable(message))


def transactions(puts: list[Put]) -> Iterator[list[Put]]:
    """The puts of coupons in order, in as few transactions as DynamoDB allows."""
    transaction: list[Put] = []
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
