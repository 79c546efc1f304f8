"""What comes in with a request, read and checked, and what goes out.

Lean on purpose: this runs for every command. flask-smorest's own decorators would cost half a Flask request more, and
Flask's ``request`` is looked up anew each time that it is named.
"""

import re
from collections.abc import Set
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from flask import Response, request
from marshmallow import Schema, ValidationError
from werkzeug.datastructures import Headers

from coupon.acceptance.requests import Caller
from coupon.domain.codes import InvalidCode, parse
from coupon.domain.serialization import Malformed, dump, load
from coupon.web.problems import FIELDS_TOLD, InvalidField, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

JSON = "application/json"
ANONYMOUS = "anonymous"
KEY_HEADER = "Idempotency-Key"
WAIT_MAX_S = 30
LIMIT, LIMIT_MAX = 100, 1_000
_CALLER = re.compile(r"[!-~]{1,128}")
_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)


class JsonResponse(Response):
    """Its headers are complete and plain ASCII, so werkzeug need not go over them once more (a sixth of a request)."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:  # noqa: ARG002
        return self.headers


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    sent = dump(body)
    complete = Headers([("Content-Type", JSON), ("Content-Length", str(len(sent))), *(headers or {}).items()])
    return JsonResponse([sent], status, complete)


def body(environ: "WSGIEnvironment", schema: Schema, max_bytes: int) -> dict[str, Any]:
    """The request's body, as the schema loads it."""
    if environ.get("CONTENT_TYPE") != JSON and request.mimetype != JSON:
        raise Problem("UNSUPPORTED_MEDIA_TYPE", f"the Content-Type is {request.mimetype!r}")
    try:
        sent = load(_read_body(environ, max_bytes))
        if isinstance(sent, dict) and len(sent) > FIELDS_TOLD:
            raise InvalidField({name: ["Unknown field."] for name in _unknown(sent, schema)})
        loaded: dict[str, Any] = schema.load(sent)
    except Malformed as error:
        raise Problem("INVALID_JSON", str(error)) from error
    except ValidationError as error:
        raise InvalidField(_by_field(error)) from error
    return loaded


def _unknown(sent: dict[str, Any], schema: Schema) -> list[str]:
    """The first members that the schema does not know, of an object that has more than any schema."""
    known = {field.data_key or name for name, field in schema.fields.items()}
    return list(islice((name for name in sent if name not in known), FIELDS_TOLD))


def _read_body(environ: "WSGIEnvironment", max_bytes: int) -> bytes:
    """What was sent. Werkzeug's own reading takes a fifth of a request, and of a chunked body that is too long it gives
    the beginning. A body that says that it is too long is not read: the server did not wait for it."""
    length = environ.get("CONTENT_LENGTH") or None
    if length is None and "wsgi.input_terminated" not in environ:
        return b""
    try:
        size = max_bytes + 1 if length is None else max(int(length), 0)
        sent: bytes = environ["wsgi.input"].read(size) if length is None or size <= max_bytes else bytes(max_bytes + 1)
    except Exception as error:  # each server has its own for a body that breaks off, or breaks the rules of chunks
        raise Problem("BAD_REQUEST", "the body did not come whole") from error
    if len(sent) > max_bytes:
        raise Problem("BODY_TOO_LARGE", f"the body has more than {max_bytes} bytes")
    return sent


def caller(environ: "WSGIEnvironment", header: str) -> Caller:
    """Who asks, with the request's ``Idempotency-Key``. ``header`` is the one in which the gateway names the caller."""
    name, key = environ.get(_in_environ(header)), environ.get("HTTP_IDEMPOTENCY_KEY")
    if name is not None and not _CALLER.fullmatch(name):
        raise InvalidField({header: ["Has to be 1 to 128 visible ASCII characters."]})
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidField({KEY_HEADER: ["Has to be 1 to 255 visible ASCII characters."]})
    return Caller(ANONYMOUS if name is None else name, key)


@lru_cache
def _in_environ(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def wait_s(environ: "WSGIEnvironment") -> int | None:
    """How long the caller would wait for the outcome (``Prefer: wait=N``, RFC 7240); None when he would not.
    A preference that cannot be read is ignored, as the RFC has it."""
    preferences = environ.get("HTTP_PREFER")
    if preferences is None:
        return None
    for preference in preferences.split(","):
        if wait := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(wait[1]), WAIT_MAX_S)
    return None


def check_parameters(known: Set[str]) -> None:
    """Raises InvalidField for a parameter that is not known or given twice. One that would be ignored, such as a filter
    that there is not, would make the answer another one than was asked for."""
    errors = {}
    for name, values in request.args.lists():
        if name not in known:
            errors[name] = ["Unknown parameter."]
        elif len(values) > 1:
            errors[name] = ["ImportChunk more than once."]
    if errors:
        raise InvalidField(errors)


def page() -> tuple[int, str | None]:
    """The ``limit`` and ``cursor`` that a list was asked for with."""
    text = request.args.get("limit")
    if text is None:
        return LIMIT, request.args.get("cursor")
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= LIMIT_MAX):
        raise InvalidField({"limit": [f"Has to be a whole number from 1 to {LIMIT_MAX}."]})
    return int(text), request.args.get("cursor")


def coupon_code(text: str) -> str:
    """The code in an address, in its stored form."""
    try:
        return parse(text)
    except InvalidCode as error:
        raise InvalidField({"couponCode": [str(error)]}) from error


def _by_field(error: ValidationError) -> dict[str, list[str]]:
    """Marshmallow's messages, flat: of the whole body under ``body``."""
    messages: dict[str, list[str]] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return {"body" if field == "_schema" else field: list(map(str, said)) for field, said in messages.items()}
