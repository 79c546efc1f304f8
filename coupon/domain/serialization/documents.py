"""Documents: coupons as search, HTTP and the export show them. ``Document`` declares the fields; all else follows.

``{"couponCode": "15BR0835OWXT4180EHZ", "userId": "ann", "issued": true, "used": false, …, "version": 2}``
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from operator import attrgetter
from types import NoneType
from typing import Annotated, Any, NamedTuple, NewType, TypedDict, cast, get_args, get_origin, get_type_hints

import msgspec

from coupon.domain.model import Coupon, Day
from coupon.domain.serialization.json_format import CODE, NAME, VERSION

OUTER_NAMES = {"code": "couponCode", "creation_size": "batch"}
"""Names in documents and tables that are not the attribute's in camel case. Tables of earlier versions have ``batch``.
"""
Instant = NewType("Instant", str)
"""``2026-11-22T15:40:43.123Z``: ISO in UTC, to the millisecond."""
_DayText = Annotated[Day, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
_InstantText = Annotated[Instant, msgspec.Meta(max_length=24)]


_EPOCH = date(1970, 1, 1)
_MINUTES = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(1_440)]


@lru_cache(4096)
def instant(milliseconds: int | None) -> str | None:
    """``2026-11-22T15:40:43.123Z`` of the milliseconds since the epoch; None of None. It is cached: all coupons of a
    creation have the same ones."""
    if milliseconds is None:
        return None
    minutes, rest = divmod(milliseconds, 60_000)
    days, minute = divmod(minutes, 1_440)
    return f"{_day_after(days)}T{_MINUTES[minute]}:{rest // 1000:02d}.{rest % 1000:03d}Z"


@lru_cache(4096)
def _day_after(days: int) -> str:
    """The day so many days after the epoch. It is cached: making it is most of an instant's work."""
    return (_EPOCH + timedelta(days)).isoformat()


class Document(TypedDict):
    """The one declaration of a document's fields. The search index, the search table, the HTTP schema and the export
    follow from it.

    A field has the name of the coupon's attribute in camel case; only ``couponCode`` is ``code``. Days are ISO days.
    """

    couponCode: CODE
    userId: NAME | None
    issued: bool
    used: bool
    validFrom: _DayText
    expireAt: _DayText
    issuedAt: _InstantText | None
    usedAt: _InstantText | None
    createdAt: _InstantText
    modifiedAt: _InstantText
    version: Annotated[VERSION, msgspec.Meta(description="How many commands made it what it is.")]


class DocumentField(NamedTuple):
    """The declaration of one field. ``kind`` is ``str``, ``int``, ``bool``, ``Day`` or ``Instant``.

    ``is_later``: the field came after the first version, so that documents of earlier versions lack it; they have its
    ``default``.
    """

    name: str
    attribute: str
    kind: Any
    is_optional: bool
    is_later: bool
    default: Any
    description: str | None


def wire_name(attribute: str) -> str:
    """The name of the coupon's attribute in documents and tables."""
    return OUTER_NAMES.get(attribute) or re.sub("_([a-z])", lambda match: match[1].upper(), attribute)


def _declared(name: str, hint: Any) -> DocumentField:
    attribute = "code" if name == "couponCode" else re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)
    is_optional = NoneType in get_args(hint)
    kind = next(part for part in get_args(hint) if part is not NoneType) if is_optional else hint
    meta = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    description = next((each.description for each in meta if each.description), None)
    base = get_args(kind)[0] if meta else kind
    default = Coupon._field_defaults.get(attribute)
    shown = instant(default) if base is Instant else default
    return DocumentField(name, attribute, base, is_optional, attribute in Coupon._field_defaults, shown, description)


_DOCUMENT_HINTS = get_type_hints(Document, include_extras=True)
DOCUMENT_FIELDS: Mapping[str, DocumentField] = {name: _declared(name, hint) for name, hint in _DOCUMENT_HINTS.items()}
_LATER = {field.name: field.default for field in DOCUMENT_FIELDS.values() if field.is_later}
_INSTANTS = [field.name for field in DOCUMENT_FIELDS.values() if field.kind is Instant]
_attributes = attrgetter(*(field.attribute for field in DOCUMENT_FIELDS.values()))


def document(coupon: Coupon) -> Document:
    fields = dict(zip(DOCUMENT_FIELDS, _attributes(coupon), strict=True))
    for name in _INSTANTS:
        fields[name] = instant(fields[name])
    return cast(Document, fields)


def completed(indexed: Any) -> Any:
    """The indexed document, with the defaults of fields that the version that wrote it did not have."""
    return _LATER | indexed if _LATER and isinstance(indexed, dict) else indexed


def fault_of_document(value: Any) -> str | None:
    """The error in an indexed document; None when it is valid. Unknown fields are no error."""
    try:
        msgspec.convert(value, _DOCUMENT)
    except msgspec.ValidationError as error:
        return str(error)
    return None


_DOCUMENT = msgspec.defstruct(
    "Document",
    [(name, hint, _LATER[name]) if name in _LATER else (name, hint) for name, hint in _DOCUMENT_HINTS.items()],
    kw_only=True,
)
