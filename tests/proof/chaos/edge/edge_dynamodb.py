"""What DynamoDB answers, and DynamoDB Local never does, in place of the answer that our transport received."""

import json
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

import edge_dice as dice

ReadOnce = Callable[[], Any]
TYPES = "com.amazonaws.dynamodb.v20120810#"
TRANSACTION_REASONS = {
    "TransactionConflict": "Transaction is ongoing for the item",
    "ThrottlingError": "Throughput exceeds the current capacity for one or more global secondary indexes.",
    "ProvisionedThroughputExceeded": "The level of configured provisioned throughput for the table was exceeded.",
}
_applied: deque[str] = deque(maxlen=1_000)
"""Tokens of transactions that were applied while their callers do not know. DynamoDB answers these that they were
applied, and never that something hinders them."""


def wrap(transport: ModuleType) -> None:
    pass_on = transport.DynamoTransport.post

    def post(connection: Any, operation: str, body: bytes, timeout_s: float) -> Any:
        def ask() -> Any:
            return pass_on(connection, operation, body, timeout_s)

        if not dice.falls():
            return ask()
        sent = json.loads(body)
        kind = dice.choose(_possible(operation, sent))
        return FAULTS[kind](transport, sent, ask)

    transport.DynamoTransport.post = post


def _possible(operation: str, sent: dict[str, Any]) -> list[str]:
    kinds = ["dynamodb-throughput", "dynamodb-throttled", "dynamodb-internal-error", "dynamodb-lost-reply"]
    if operation == "TransactWriteItems":
        kinds.append("dynamodb-in-progress")
        if sent.get("ClientRequestToken") not in _applied:
            kinds += ["dynamodb-conflict", "dynamodb-item-throttled"]
    if operation == "BatchGetItem" and _keys(sent) > 1:
        kinds.append("dynamodb-unprocessed-keys")
    return kinds


def _throughput(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    message = (
        "The level of configured provisioned throughput for the table was exceeded. "
        "Consider increasing your provisioning level with the UpdateTable API."
    )
    return _refused(transport, TYPES + "ProvisionedThroughputExceededException", message)


def _throttled(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    return _refused(
        transport, "com.amazon.coral.availability#ThrottlingException", "Rate of requests exceeds the limit"
    )


def _in_progress(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    message = "The transaction with the given request token is already in progress."
    return _refused(transport, TYPES + "TransactionInProgressException", message)


def _internal_error(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    """What was to be written may have been."""
    if dice.toss():
        _apply(sent, ask)
    return _reply(transport, 500, {"__type": TYPES + "InternalServerError", "message": "Internal server error"})


def _lost_reply(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    _apply(sent, ask)
    raise transport.BrokenOff("the edge")


def _conflict(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    return _cancelled(transport, sent, ["TransactionConflict"])


def _item_throttled(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    return _cancelled(transport, sent, ["ThrottlingError", "ProvisionedThroughputExceeded"])


def _unprocessed_keys(transport: ModuleType, sent: dict[str, Any], ask: ReadOnce) -> Any:
    """Those that were read are answered, and at least one was."""
    answer = ask()
    if answer.status != 200:
        return answer
    body = json.loads(answer.body)
    [(table, asked)] = sent["RequestItems"].items()
    left = [asked["Keys"][place] for place in dice.some(len(asked["Keys"]), len(asked["Keys"]) - 1)]
    body["UnprocessedKeys"] = {table: {**asked, "Keys": left}}
    body["Responses"][table] = [item for item in body["Responses"][table] if not _is_of(item, left)]
    return _reply(transport, 200, body)


FAULTS: dict[str, Callable[[ModuleType, dict[str, Any], ReadOnce], Any]] = {
    "dynamodb-throughput": _throughput,
    "dynamodb-throttled": _throttled,
    "dynamodb-internal-error": _internal_error,
    "dynamodb-lost-reply": _lost_reply,
    "dynamodb-in-progress": _in_progress,
    "dynamodb-conflict": _conflict,
    "dynamodb-item-throttled": _item_throttled,
    "dynamodb-unprocessed-keys": _unprocessed_keys,
}


def _apply(sent: dict[str, Any], ask: ReadOnce) -> None:
    token = sent.get("ClientRequestToken")
    if ask().status == 200 and token:
        _applied.append(token)


def _cancelled(transport: ModuleType, sent: dict[str, Any], codes: list[str]) -> Any:
    """For some of its items; nothing is written."""
    number = len(sent["TransactItems"])
    chosen = {place: codes[place % len(codes)] for place in dice.some(number, number)}
    reasons = [_reason(chosen.get(place)) for place in range(number)]
    every = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{every}]"
    error = {"__type": TYPES + "TransactionCanceledException", "CancellationReasons": reasons, "Message": message}
    return _reply(transport, 400, error)


def _reason(code: str | None) -> dict[str, str]:
    return {"Code": code, "Message": TRANSACTION_REASONS[code]} if code else {"Code": "None"}


def _keys(sent: dict[str, Any]) -> int:
    return sum(len(asked["Keys"]) for asked in sent["RequestItems"].values())


def _is_of(item: dict[str, Any], keys: list[dict[str, Any]]) -> bool:
    return any(key.items() <= item.items() for key in keys)


def _refused(transport: ModuleType, error: str, message: str) -> Any:
    return _reply(transport, 400, {"__type": error, "message": message})


def _reply(transport: ModuleType, status: int, body: dict[str, Any]) -> Any:
    return transport.Response(status, {}, json.dumps(body).encode())
