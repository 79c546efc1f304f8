"""A table's connection: requests with a deadline, attempts with pauses, and errors translated to the contract's."""

import math
import os
import random
import threading
import time
from typing import Any, NamedTuple, TypeVar

import certifi
import msgspec
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from pynamodb.connection import Connection
from pynamodb.exceptions import PynamoDBException
from pynamodb.models import Model

from backends.http_connections import BrokenOff
from backends.store.dynamodb_model import bind
from backends.store.dynamodb_transport import CONNECT_TIMEOUT_S, DynamoTransport
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable
from coupon.domain.serialization import dump

OK = 200
MISSING = "ResourceNotFoundException"
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
FAILURES = (BotoCoreError, ClientError, PynamoDBException)
"""What botocore and PynamoDB raise."""
BROKEN = (BrokenOff, msgspec.DecodeError)
"""An answer that broke off: a body that is no JSON is one within which the connection broke."""
Answered = TypeVar("Answered")


class Cancelled(Exception):
    """A transaction was not applied: the reason of each item, or None."""

    def __init__(self, reasons: list[str | None]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


class _Reason(msgspec.Struct, rename={"code": "Code"}):
    code: str = "None"


class _Refusal(msgspec.Struct, rename={"kind": "__type", "said": "Message", "reasons": "CancellationReasons"}):
    """The body of an error. ``kind`` is a name behind a ``#``, and may be missing where no DynamoDB answered."""

    kind: str = ""
    message: str = ""
    said: str = ""
    reasons: list[_Reason] = []

    @property
    def code(self) -> str:
        return self.kind.rpartition("#")[2]


_REFUSAL = msgspec.json.Decoder(_Refusal)


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
    """Opened lazily, once a process: connections may be shared by threads, not across a fork."""

    def __init__(self, table: str, timeout_s: float, **options: Any) -> None:
        self.table, self.timeout_s = table, timeout_s
        self._options = options
        self._by_process: dict[int, _Opened] = {}
        self._opening = threading.Lock()
        self._closed = False

    def patience(self, longest_s: float = math.inf) -> Patience:
        """For one request, from now on. The connection is open then: that takes a tenth of a second of computing, which
        is not the server's to lose."""
        self._opened()
        return Patience(min(self.timeout_s, longest_s))

    def call(
        self, operation: str, patience: Patience, answer: "msgspec.json.Decoder[Answered]", request: dict[str, Any]
    ) -> Answered:
        """The answer, decoded. Raises Cancelled, BackendUnavailable or BackendRejected."""
        body = dump(request)
        while True:
            try:
                response = self._opened().transport.post(operation, body, patience.left_s())
                if response.status == OK:
                    return answer.decode(response.body)
                failure = self._refused(response.status, response.body)
            except msgspec.ValidationError as error:  # somebody else answered
                raise self._unavailable(f"no answer to {operation}: {error}") from error
            except BROKEN as error:
                failure = self._unavailable(str(error))
                failure.__cause__ = error
            except OSError as error:
                raise self._unavailable(f"{operation}: {error}") from error
            except FAILURES as error:  # credentials that cannot be renewed
                raise self.failure(error) from error
            patience.pause(failure)

    def _refused(self, status: int, body: bytes) -> BackendUnavailable:
        """What passes, to be tried again. Raises what does not: Cancelled, BackendUnavailable or BackendRejected."""
        try:
            refusal = _REFUSAL.decode(body)
        except msgspec.DecodeError:
            refusal = _Refusal()
        if refusal.code == "TransactionCanceledException":
            raise Cancelled([None if reason.code == "None" else reason.code for reason in refusal.reasons])
        reason = ": ".join(filter(None, (refusal.code or f"status {status}", refusal.message or refusal.said)))
        if refusal.code in REJECTED:
            raise BackendRejected(f"DynamoDB table {self.table}: {reason}")
        unavailable = self._unavailable(reason, refusal.code)
        if status < 500 and refusal.code not in TRANSIENT:
            raise unavailable
        return unavailable

    def _unavailable(self, reason: str, code: str = "") -> BackendUnavailable:
        hint = " (run: coupon init)" if code == MISSING else ""
        return BackendUnavailable(f"DynamoDB table {self.table}: {reason}{hint}")

    def model(self) -> type[Model]:
        """The model bound to the table."""
        return self._opened().model

    def driver(self) -> Connection:
        """For what is rare: it has botocore's timeouts."""
        return self._opened().connection

    def _opened(self) -> "_Opened":
        if self._closed:
            raise BackendUnavailable(f"the DynamoDB table {self.table} was closed")
        try:
            return self._by_process.get(os.getpid()) or self._open()
        except FAILURES as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> BackendError:
        """The error of botocore or PynamoDB in our words."""
        details = _answer(error).get("Error", {})
        code = code_of(error)
        reason = ": ".join(filter(None, (code, details.get("Message")))) or str(error)
        if code in REJECTED:
            return BackendRejected(f"DynamoDB table {self.table}: {reason}")
        return self._unavailable(reason, code or "")

    def close(self) -> None:
        self._closed = True
        opened = self._by_process.pop(os.getpid(), None)
        if opened is not None:
            opened.transport.close()
            opened.connection.client.close()

    def _open(self) -> "_Opened":
        with self._opening:
            if os.getpid() not in self._by_process:
                self._by_process[os.getpid()] = self._bind()
            return self._by_process[os.getpid()]

    def _bind(self) -> "_Opened":
        """botocore knows who we are and where the table is, also for the requests that go past it."""
        model = bind(
            self.table,
            connect_timeout_seconds=min(CONNECT_TIMEOUT_S, self.timeout_s),
            read_timeout_seconds=self.timeout_s,
            max_retry_attempts=0,
            **self._options,
        )
        connection = model._get_connection().connection
        credentials = connection.session.get_credentials()
        if credentials is None:  # PynamoDB would make a new client for every request
            raise BackendUnavailable(f"DynamoDB table {self.table}: no AWS credentials found")
        place, certificates = connection.client.meta, _certificates(connection)
        try:
            transport = DynamoTransport(place.endpoint_url, place.region_name, credentials, certificates)
        except OSError as error:
            raise self._unavailable(f"the certificates in {certificates!r}: {error.strerror}") from error
        return _Opened(model, connection, transport)


class _Opened(NamedTuple):
    """The client and the model of one process."""

    model: type[Model]
    connection: Connection
    transport: DynamoTransport


def _certificates(connection: Connection) -> str:
    """The file of those that botocore trusts."""
    bundle: str | None = connection.session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return bundle or certifi.where()


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
