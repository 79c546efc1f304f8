"""Fixes of botocore 1.44.8 and urllib3 2.8. All of their private names that we use are in this module.

``FastPath`` sends our requests as JSON, and returns the responses as they are parsed from JSON.
    To get from dictionaries to JSON and back, botocore walks every value by its shape. For our requests both are the
    same. Without the fast path a coupon costs 54 µs to read instead of 19, and 64 to write instead of 41.
    It uses events of botocore, and their arguments. When they differ in another version, botocore does all of the work
    itself, and one warning is logged.

``limit_answers`` makes the timeout one for a whole response.
    The timeout of botocore is for each wait, so a slow response took 25 s instead of 2, and held its thread. There is
    no option for another socket. When the private names differ in another version, botocore's own timeouts are used,
    and one warning is logged.
"""

import socket
from typing import Any

import structlog
from botocore.awsrequest import (  # type: ignore[import-untyped]
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSResponse,
)

from backends.deadline_socket import PromptTlsSocket, prompt
from coupon.domain import serialization as wire
from coupon.domain.errors import Malformed

_READ_TIMEOUT = "read_timeout"
_REQUEST = "coupon.request"
_PROBE = {"TableName": "probe", "Key": {"couponCode": {"S": "probe"}}}
_PROBE_TIMEOUT_S = 0.25
log = structlog.get_logger("coupon.dynamodb")


class FastPath:
    """The fast path of one client. ``works`` is False when the client does all of the work itself."""

    def __init__(self, client: Any) -> None:
        hooks: dict[str, Any] = {
            "provide-client-params.dynamodb": _set_aside,
            "before-call.dynamodb": _write_json,
            "before-parse.dynamodb": _read_json,
        }
        for event, hook in hooks.items():
            client.meta.events.register(event, hook)
        failure = _failure(client)
        self.works = failure is None
        if failure is not None:
            for event, hook in hooks.items():
                client.meta.events.unregister(event, hook)
            log.warning("DynamoDB without the fast path", reason=failure)

    def request(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The arguments for the client. Without the fast path, a request has the client's own timeout."""
        return request | {_READ_TIMEOUT: timeout_s} if self.works else request


def _failure(client: Any) -> str | None:
    """The error in a trial request, which is answered here and not sent; None when it works."""
    sent: list[bytes] = []
    timeouts: list[float] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request.body)
        return AWSResponse(request.url, 200, {}, _Raw(wire.dump({"Item": _PROBE})))

    def note(context: dict[str, Any], **_: Any) -> None:
        timeouts.append(context[_READ_TIMEOUT])

    client.meta.events.register_first("before-send.dynamodb.GetItem", answer)
    client.meta.events.register_last("before-call.dynamodb.GetItem", note)
    try:
        answered = client.get_item(**_PROBE, **{_READ_TIMEOUT: _PROBE_TIMEOUT_S})
        fits = sent == [wire.dump(_PROBE)] and timeouts == [_PROBE_TIMEOUT_S] and answered.get("Item") == _PROBE
        return None if fits else f"a request went as {sent} within {timeouts} s, and its answer came as {answered}"
    except Exception as error:  # a driver that has changed may raise anything
        return repr(error)
    finally:
        client.meta.events.unregister("before-send.dynamodb.GetItem", answer)
        client.meta.events.unregister("before-call.dynamodb.GetItem", note)


class _Raw:
    """The body of a response, for botocore to read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> list[bytes]:
        return [self._body]


def _set_aside(params: dict[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    """The parameters without values, so that botocore has nothing to walk."""
    context[_READ_TIMEOUT] = params.pop(_READ_TIMEOUT, None)
    context[_REQUEST] = params
    return {name: type(value)() for name, value in params.items()}


def _write_json(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["body"] = wire.dump(context.pop(_REQUEST))


def _read_json(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] < 300:
        loaded = wire.load(response_dict["body"])
        if not isinstance(loaded, dict):
            raise Malformed(f"not an object: {loaded!r:.100}")
        customized_response_dict |= loaded
        response_dict["body"] = b""


class _DeadlineConnection(AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
    def _new_conn(self) -> socket.socket:
        return prompt(super()._new_conn())


class _DeadlinePool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _DeadlineConnection


def limit_answers(client: Any) -> None:
    """Make the client's timeout one for a whole response."""
    try:
        session = client._endpoint.http_session
        tls = session._manager.connection_pool_kw["ssl_context"]
        session._pool_classes_by_scheme["http"] = _DeadlinePool
        tls.sslsocket_class = PromptTlsSocket
    except (AttributeError, LookupError, TypeError) as error:
        log.warning("DynamoDB with the driver's own timeouts", reason=repr(error))
