"""A table's connection: requests with a deadline, attempts with pauses, and errors translated to the contract's."""

import math
import os
import random
import threading
import time
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError  # type: ignore[import-untyped]
from pynamodb.connection import Connection
from pynamodb.exceptions import PynamoDBException, VerboseClientError
from pynamodb.models import Model

from backends.store.dynamodb_fixes import FastPath, limit_answers
from backends.store.dynamodb_model import bind
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable, Malformed

CONNECT_TIMEOUT_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5
TRANSIENT = {
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""Errors that pass within milliseconds or seconds."""
REJECTED = {"ItemCollectionSizeLimitExceededException", "SerializationException", "ValidationException"}
"""Errors of the request itself. Any other error is one of the deployment: a missing table, expired credentials, a
missing permission. An operator repairs it, so no command may be dead-lettered for it."""
FAILURES = (BotoCoreError, ClientError, PynamoDBException, Malformed)
"""The errors of a request. Malformed is a body that is no JSON: the connection broke within it."""


class Cancelled(Exception):
    """A transaction was not applied: the reason of each item, or None."""

    def __init__(self, reasons: list[str | None]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


class Patience:
    """The deadline of a request, and the growing pauses between its attempts."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._pause_s = FIRST_PAUSE_S

    def left_s(self) -> float:
        return max(self._deadline - time.monotonic(), FIRST_PAUSE_S)

    def pause(self, failure: BackendUnavailable) -> None:
        """Wait before the next attempt; raise the failure when there is no time for one."""
        pause_s = random.uniform(self._pause_s / 2, self._pause_s)  # noqa: S311 - jitter
        if time.monotonic() + pause_s >= self._deadline:
            raise failure
        time.sleep(pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


class DynamoConnection:
    """Opened lazily, once a process: botocore's clients may be shared by threads, not across a fork.

    botocore's own retries are switched off: they do not know the deadline.
    """

    def __init__(self, table: str, timeout_s: float, **options: Any) -> None:
        self.table, self.timeout_s = table, timeout_s
        self._options = options
        self._by_process: dict[int, _Opened] = {}
        self._opening = threading.Lock()
        self._closed = False

    def patience(self, longest_s: float = math.inf) -> Patience:
        """The patience of one request, from now on. The connection is opened before, because that takes a tenth of a
        second of computing."""
        self.model()
        return Patience(min(self.timeout_s, longest_s))

    def call(self, operation: str, patience: Patience, **request: Any) -> dict[str, Any]:
        """The response. Raises Cancelled, BackendUnavailable or BackendRejected."""
        while True:
            try:
                opened = self._opened()
                whole = request | {"ReturnConsumedCapacity": "NONE"}
                to_send = opened.fast_path.request(whole, patience.left_s())
                answer: dict[str, Any] = opened.connection.dispatch(operation, to_send)
                return answer
            except FAILURES as error:
                if code_of(error) == "TransactionCanceledException":
                    raise Cancelled(_reasons(error)) from error
                failure = self.failure(error)
                failure.__cause__ = error
                if not isinstance(failure, BackendUnavailable) or not _is_transient(error):
                    raise failure from error
            patience.pause(failure)

    def model(self) -> type[Model]:
        """The model bound to this connection."""
        return self._opened().model

    def _opened(self) -> "_Opened":
        if self._closed:
            raise BackendUnavailable(f"the DynamoDB table {self.table} was closed")
        try:
            return self._by_process.get(os.getpid()) or self._open()
        except FAILURES as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> BackendError:
        """The contract's error for the driver's."""
        details = _answer(error).get("Error", {})
        reason = ": ".join(filter(None, (details.get("Code"), details.get("Message")))) or str(error)
        if code_of(error) == "ResourceNotFoundException":
            reason += " (run: coupon init)"
        kind = BackendRejected if code_of(error) in REJECTED else BackendUnavailable
        return kind(f"DynamoDB table {self.table}: {reason}")

    def close(self) -> None:
        self._closed = True
        opened = self._by_process.pop(os.getpid(), None)
        if opened is not None:
            opened.connection.client.close()

    def _open(self) -> "_Opened":
        with self._opening:
            if os.getpid() not in self._by_process:
                self._by_process[os.getpid()] = self._bind()
            return self._by_process[os.getpid()]

    def _bind(self) -> "_Opened":
        model = bind(
            self.table,
            connect_timeout_seconds=min(CONNECT_TIMEOUT_S, self.timeout_s),
            read_timeout_seconds=self.timeout_s,
            max_retry_attempts=0,
            max_pool_connections=64,  # with more threads urllib3 warns
            **self._options,
        )
        connection = model._get_connection().connection
        if connection.session.get_credentials() is None:  # PynamoDB would make a new client for every request
            raise BackendUnavailable(f"DynamoDB table {self.table}: no AWS credentials found")
        client = connection.client
        limit_answers(client)
        return _Opened(model, connection, FastPath(client))


class _Opened(NamedTuple):
    """The client and the model of one process."""

    model: type[Model]
    connection: Connection
    fast_path: FastPath


def _answer(error: BaseException | None) -> dict[str, Any]:
    """DynamoDB's response, if there was one: PynamoDB wraps it once or twice."""
    while error is not None:
        answer: dict[str, Any] | None = getattr(error, "response", None)
        if answer and "ResponseMetadata" in answer:
            return answer
        error = getattr(error, "cause", None) or error.__cause__
    return {}


def code_of(error: Exception) -> str | None:
    """DynamoDB's name of the error; None without a response."""
    code: str | None = _answer(error).get("Error", {}).get("Code")
    return code


def _is_transient(error: Exception) -> bool:
    status = _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    broken = isinstance(error, ConnectionClosedError | Malformed)
    return broken or status >= 500 or code_of(error) in TRANSIENT


def _reasons(error: Exception) -> list[str | None]:
    reasons = error.cancellation_reasons if isinstance(error, VerboseClientError) else []
    return [reason.code if reason else None for reason in reasons]
