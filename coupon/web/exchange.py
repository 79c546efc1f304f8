"""What comes in with a request, read and checked, and what goes out.

Lean on purpose: this runs for every command. flask-smorest's own decorators would cost half a Flask request more.
"""

import json
import re
from typing import Any, NoReturn

from flask import Response, request
from marshmallow import Schema, ValidationError

from coupon.codes import InvalidCode, parse
from coupon.service import Caller
from coupon.web.problems import InvalidField, Problem
from coupon.wire import dump

ANONYMOUS = "anonymous"
KEY_HEADER = "Idempotency-Key"
WAIT_MAX_S = 30
LIMIT, LIMIT_MAX = 100, 1_000
_CALLER = re.compile(r"[!-~]{1,128}")
_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(dump(body), status, headers, mimetype="application/json")


def body(schema: Schema) -> dict[str, Any]:
    """The request's body, as the schema loads it."""
    if request.mimetype != "application/json":
        raise Problem("UNSUPPORTED_MEDIA_TYPE", f"the Content-Type is {request.mimetype!r}")
    try:
        data = _JSON.decode(request.get_data(cache=False).decode())
    except (ValueError, RecursionError) as error:
        raise Problem("INVALID_JSON", str(error)) from error
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise InvalidField(_by_field(error)) from error
    return loaded


def caller(header: str) -> Caller:
    """Who asks, with the request's ``Idempotency-Key``. ``header`` is the one in which the gateway names the caller."""
    name, key = request.headers.get(header), request.headers.get(KEY_HEADER)
    if name is not None and not _CALLER.fullmatch(name):
        raise InvalidField({header: ["Has to be 1 to 128 visible ASCII characters."]})
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidField({KEY_HEADER: ["Has to be 1 to 255 visible ASCII characters."]})
    return Caller(ANONYMOUS if name is None else name, key)


def wait_s() -> int | None:
    """How long the caller would wait for the outcome (``Prefer: wait=N``, RFC 7240); None when he would not.
    A preference that cannot be read is ignored, as the RFC has it."""
    for preference in request.headers.get("Prefer", "").split(","):
        if wait := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(wait[1]), WAIT_MAX_S)
    return None


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


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_not_json)
