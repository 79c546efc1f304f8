"""What DynamoDB answers, and DynamoDB Local never does, in place of what came back from an exchange of botocore's."""

import json
import uuid
import zlib
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

import botocore.awsrequest  # it may be the one that is importing us: there is nothing in it yet
import edge_dice as dice
from botocore.exceptions import ConnectionClosedError

ReadOnce = Callable[[], Any]
TYPES = "com.amazonaws.dynamodb.v20120810#"
TRANSACTION_REASONS = {
    "TransactionConflict": "Transaction is ongoing for the item",
    "ThrottlingError": "Throughput exceeds the current capacity for one or more global secondary indexes.",
    "ProvisionedThroughputExceeded": "The level of configured provisioned throughput for the table was exceeded.",
}
_applied: deque[str] = deque(maxlen=1_000)
"""Tokens of transactions that were applied while their callers do not know.
When such a caller asks again, DynamoDB would answer that it was applied, and never that a condition failed."""


def wrap(httpsession: ModuleType) -> None:
    pass_on = httpsession.URLLib3Session.send

    def send(session: Any, request: Any) -> Any:
        operation = _operation(request)
        if operation is None or not dice.falls():
            return pass_on(session, request)
        sent = json.loads(request.body)
        kind = dice.choose(_possible(operation, sent))
        return FAULTS[kind](request, sent, lambda: pass_on(session, request))

    httpsession.URLLib3Session.send = send


def _operation(request: Any) -> str | None:
    target = request.headers.get("X-Amz-Target") or ""
    service, _, operation = (target.decode() if isinstance(target, bytes) else target).partition(".")
    return operation if service.startswith("DynamoDB") else None


def _possible(operation: str, sent: dict[str, Any]) -> list[str]:
    kinds = ["dynamodb-throughput", "dynamodb-throttled", "dynamodb-internal-error", "dynamodb-lost-reply"]
    if operation == "TransactWriteItems":
        kinds.append("dynamodb-in-progress")
        if sent.get("ClientRequestToken") not in _applied:
            kinds += ["dynamodb-conflict", "dynamodb-item-throttled"]
    if operation == "BatchGetItem" and _keys(sent) > 1:
        kinds.append("dynamodb-unprocessed-keys")
    return kinds


def _throughput(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    message = (
        "The level of configured provisioned throughput for the table was exceeded. "
        "Consider increasing your provisioning level with the UpdateTable API."
    )
    return _refused(request, TYPES + "ProvisionedThroughputExceededException", message)


def _throttled(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    return _refused(request, "com.amazon.coral.availability#ThrottlingException", "Rate of requests exceeds the limit")


def _in_progress(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    message = "The transaction with the given request token is already in progress."
    return _refused(request, TYPES + "TransactionInProgressException", message)


def _internal_error(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    """What was to be written may have been."""
    if dice.toss():
        _apply(sent, ask)
    return _reply(request, 500, {"__type": TYPES + "InternalServerError", "message": "Internal server error"})


def _lost_reply(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    _apply(sent, ask)
    raise ConnectionClosedError(error="the edge", request=request, endpoint_url=request.url)


def _conflict(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    return _cancelled(request, sent, ["TransactionConflict"])


def _item_throttled(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    return _cancelled(request, sent, ["ThrottlingError", "ProvisionedThroughputExceeded"])


def _unprocessed_keys(request: Any, sent: dict[str, Any], ask: ReadOnce) -> Any:
    """Those that were read are answered, and at least one was."""
    answer = ask()
    if answer.status_code != 200:
        return answer
    body = json.loads(answer.content)
    [(table, asked)] = sent["RequestItems"].items()
    left = [asked["Keys"][place] for place in dice.some(len(asked["Keys"]), len(asked["Keys"]) - 1)]
    body["UnprocessedKeys"] = {table: {**asked, "Keys": left}}
    body["Responses"][table] = [item for item in body["Responses"][table] if not _is_of(item, left)]
    return _reply(request, 200, body)


FAULTS: dict[str, Callable[[Any, dict[str, Any], ReadOnce], Any]] = {
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
    if ask().status_code == 200 and token:
        _applied.append(token)


def _cancelled(request: Any, sent: dict[str, Any], codes: list[str]) -> Any:
    """For some of its items; nothing is written."""
    number = len(sent["TransactItems"])
    chosen = {place: codes[place % len(codes)] for place in dice.some(number, number)}
    reasons = [_reason(chosen.get(place)) for place in range(number)]
    every = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{every}]"
    error = {"__type": TYPES + "TransactionCanceledException", "CancellationReasons": reasons, "Message": message}
    return _reply(request, 400, error)


def _reason(code: str | None) -> dict[str, str]:
    return {"Code": code, "Message": TRANSACTION_REASONS[code]} if code else {"Code": "None"}


def _keys(sent: dict[str, Any]) -> int:
    return sum(len(asked["Keys"]) for asked in sent["RequestItems"].values())


def _is_of(item: dict[str, Any], keys: list[dict[str, Any]]) -> bool:
    return any(key.items() <= item.items() for key in keys)


def _refused(request: Any, error: str, message: str) -> Any:
    return _reply(request, 400, {"__type": error, "message": message})


def _reply(request: Any, status: int, body: dict[str, Any]) -> Any:
    content = json.dumps(body).encode()
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "content-length": str(len(content)),
        "x-amzn-requestid": uuid.uuid4().hex.upper(),
        "x-amz-crc32": str(zlib.crc32(content)),
    }
    response = botocore.awsrequest.AWSResponse(request.url, status, headers, None)
    response._content = content
    return response
