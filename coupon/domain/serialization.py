"""The forms that coupons and commands take outside this process: cached bytes, queued bytes, documents.

All of them are JSON. What is decoded is checked, in its types and bounds: a queue is read long after it was written, by
other versions too.
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Annotated, Any, NamedTuple, NewType, TypedDict, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from coupon.domain.codes import LENGTH, is_code
from coupon.domain.errors import Malformed, OtherFormat
from coupon.domain.model import (
    CHUNK,
    HISTORY_MAX,
    REJECTIONS_MAX,
    ChangeCoupon,
    Coupon,
    CreateCoupons,
    Day,
    HistoryEntry,
    Kind,
    Loser,
    Rejection,
)

INSTANT_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""
AMOUNT_MAX = 1_000_000_000
NUMBER_MAX = 2**62
DEFAULTS = {"number": 0, "previous_number": 0}
"""What a message of 511aa48 leaves out: see ``_change``."""
MESSAGE_NAMES = {"secret_fingerprint": "mint"}
"""What a message calls a field, where that is not its name: earlier versions wrote it, and queues keep it."""
OUTER_NAMES = {"code": "couponCode", "creation_size": "batch"}
"""What documents and tables call a coupon's attribute, where that is not its name in camel case. Tables of earlier
versions have ``batch``."""

NAME_MAX = 128
"""Characters of the ids of users and operations, and of callers' names. A coupon takes what a command takes: what was
applied can be read again."""

_CODE = Annotated[str, msgspec.Meta(pattern=rf"^[A-Z0-9]{{{LENGTH}}}\Z")]
_NAME = Annotated[str, msgspec.Meta(max_length=NAME_MAX)]
_INSTANT = Annotated[int, msgspec.Meta(ge=0, le=INSTANT_MAX)]
_VERSION = Annotated[int, msgspec.Meta(ge=1, le=INSTANT_MAX)]
_NUMBER = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
BOUNDS = {
    "code": _CODE,
    "codes": Annotated[tuple[_CODE, ...], msgspec.Meta(max_length=CHUNK)],
    "operation": _NAME,
    "previous": _NAME,
    "secret_fingerprint": _NAME,
    "actor": _NAME,
    "user_id": Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)] | None,
    "accepted_at": _INSTANT,
    "number": _NUMBER,
    "previous_number": _NUMBER,
    "settled": _NUMBER,
    "previous_version": _VERSION,
    "amount": Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)],
    "first": Annotated[int, msgspec.Meta(ge=0, lt=AMOUNT_MAX)],
    "size": Annotated[int, msgspec.Meta(ge=1, le=CHUNK)],
    "at": _INSTANT,
    "created_at": _INSTANT,
    "modified_at": _INSTANT,
    "issued_at": _INSTANT | None,
    "used_at": _INSTANT | None,
    "creation_size": Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)],
    "version": _VERSION,
    "revision": Annotated[int, msgspec.Meta(ge=1, le=INSTANT_MAX)],
}
"""What a field of a command or a coupon may be, beyond its type."""
Decoded = TypeVar("Decoded")
Fence = tuple[tuple[str, int, int], ...]
"""(topic, partition, offset of the next message) of some partitions: the queue's end at some moment."""


Instant = NewType("Instant", str)
"""``2026-11-22T15:40:43.123Z``: ISO in UTC, to the millisecond."""
_DayText = Annotated[Day, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
_InstantText = Annotated[Instant, msgspec.Meta(max_length=24)]


_EPOCH = date(1970, 1, 1)
_MINUTES = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(1_440)]


def instant(milliseconds: int | None) -> str | None:
    """``2026-11-22T15:40:43.123Z``."""
    if milliseconds is None:
        return None
    minutes, rest = divmod(milliseconds, 60_000)
    days, minute = divmod(minutes, 1_440)
    return f"{_day_after(days)}T{_MINUTES[minute]}:{rest // 1000:02d}.{rest % 1000:03d}Z"


@lru_cache(4096)
def _day_after(days: int) -> str:
    """The day so many days after the epoch, remembered: making it is most of an instant's work."""
    return (_EPOCH + timedelta(days)).isoformat()


class Document(TypedDict):
    """A coupon as search and HTTP show it: the one declaration of its fields. The search index, the search table, the
    HTTP schema and the export follow from it.

    A field is called as the coupon's attribute, in camel case; only ``couponCode`` is ``code``. Days are ISO days.
    """

    couponCode: _CODE
    userId: _NAME | None
    issued: bool
    used: bool
    validFrom: _DayText
    expireAt: _DayText
    issuedAt: _InstantText | None
    usedAt: _InstantText | None
    createdAt: _InstantText
    modifiedAt: _InstantText
    version: Annotated[_VERSION, msgspec.Meta(description="How many commands made it what it is.")]


class DocumentField(NamedTuple):
    """What the declaration says of one field. ``kind`` is ``str``, ``int``, ``bool``, ``Day`` or ``Instant``.

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
    """How the coupon's attribute is called outside this process."""
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


def completed(found: Any) -> Any:
    """What an index holds, with the fields that versions before this one did not write."""
    return _LATER | found if _LATER and isinstance(found, dict) else found


def fault_of_document(value: Any) -> str | None:
    """Why what an index holds is no coupon's document; None when it is one. More fields than ours are fine."""
    try:
        msgspec.convert(value, _DOCUMENT)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def dump(value: Any) -> bytes:
    """Compact JSON; raises ValueError for half a character (a lone surrogate)."""
    return _ENCODER.encode(value)


def load(data: bytes | str) -> Any:
    """Raises Malformed for what is not JSON in UTF-8, is nested beyond reading, or holds half a character, which no
    backend can store."""
    return decoded(_ANYTHING, data)


def decode_codes(data: bytes) -> tuple[str, ...]:
    """A list of up to ``CHUNK`` codes; raises Malformed."""
    return decoded(_CODES, data)


encode_history = encode_rejections = encode_coupon = dump
"""What is a tuple is an array: the fields in their order. An array of an earlier version is shorter, because a new
field is the last one: it has its default there."""


def decode_history(data: bytes | str) -> tuple[HistoryEntry, ...]:
    """Raises Malformed."""
    return decoded(_HISTORY, data)


def decode_rejections(data: bytes | str) -> tuple[Rejection, ...]:
    """Raises Malformed."""
    return decoded(_REJECTIONS, data)


def decode_coupon(data: bytes | str) -> Coupon:
    """Raises Malformed."""
    return _consistent(decoded(_COUPON, data))


def checked(coupon: Coupon) -> Coupon:
    """The same coupon, whose history and rejections are decoded already and whose other fields came out of a row.
    Raises Malformed for one that is of another type or beyond its bounds."""
    try:
        msgspec.convert(_head(coupon), _HEAD)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error
    return _consistent(coupon)


def _consistent(coupon: Coupon) -> Coupon:
    """The coupon, if its fields fit together; raises Malformed. A marker of earlier versions told of its complete
    chunk by a creation of no coupons."""
    code = coupon.code
    if not is_code(code):
        raise Malformed(f"{code!r:.100} is not a code")
    if not 1 <= len(coupon.history) <= coupon.version:
        raise Malformed(f"{len(coupon.history)} commands in the history of version {coupon.version}")
    _check_days(coupon.valid_from, coupon.expire_at)
    if not coupon.creation_size and not coupon.chunk_complete:
        return coupon._replace(chunk_complete=True)
    return coupon


def decode_fence(data: bytes) -> Fence | None:
    """Raises Malformed."""
    return decoded(_FENCE, data)


def decode_epoch(data: bytes) -> tuple[str, int | None, Fence | None]:
    """Raises Malformed."""
    return decoded(_EPOCH_ENTRY, data)


def decode_loser(data: bytes) -> Loser:
    """Raises Malformed."""
    return Loser(*msgspec.structs.astuple(decoded(_LOSER, data)))


def encode_command(command: ChangeCoupon | CreateCoupons) -> bytes:
    """A JSON object whose names are the command's fields, so that it can be read at 3 am, and extended."""
    if isinstance(command, CreateCoupons):
        return dump(dict(zip(_CREATION_NAMES, command, strict=True)) | {"kind": Kind.CREATE})
    return dump(command._asdict())


def decode_command(data: bytes) -> ChangeCoupon | CreateCoupons:
    """Raises Malformed for what can never be applied: not JSON, unknown kind, missing or mistyped fields."""
    if decoded(_KIND, data).kind is Kind.CREATE:
        return _creation(CreateCoupons(*msgspec.structs.astuple(decoded(_CREATION, data))))
    return _change(ChangeCoupon(*msgspec.structs.astuple(decoded(_CHANGE, data))))


def _creation(command: CreateCoupons) -> CreateCoupons:
    if len(command.codes) not in (0, command.size):
        raise Malformed(f"{len(command.codes)} codes for {command.size} coupons")
    if command.first + command.size > AMOUNT_MAX:
        raise Malformed(f"first is {command.first}, beyond {AMOUNT_MAX} coupons")
    _check_days(command.valid_from, command.expire_at)
    return command


def _change(command: ChangeCoupon) -> ChangeCoupon:
    if command.kind is Kind.ISSUE and not command.user_id:
        raise Malformed(f"issued to {command.user_id!r}")
    _check_days(command.day)
    if not command.number:  # before commands had numbers: the version that they make
        return command._replace(number=command.previous_version + 1, previous_number=command.previous_version)
    return command


@lru_cache(4096)
def _check_days(*days: Day) -> None:
    """Raise Malformed unless they are days; of those that are, it remembers that."""
    for day in days:
        try:
            known = date.fromisoformat(day).isoformat() == day
        except ValueError:
            known = False
        if not known:
            raise Malformed(f"{day!r:.100} is not a day")


def decoded(decoder: "msgspec.json.Decoder[Decoded]", data: bytes | str) -> Decoded:
    """Raises Malformed, as all that decodes here does."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error


def _refusal(reason: str) -> Malformed:
    is_other = reason.startswith("Object missing required field") and not reason.endswith("`kind`")
    return OtherFormat(reason) if is_other else Malformed(reason)


class _Kind(msgspec.Struct):
    """What has to be known of a message before the rest of it can be read."""

    kind: Kind


def _checked(message: type[tuple[Any, ...]]) -> "msgspec.json.Decoder[Any]":
    """Decodes an object of the tuple's fields, which stay within their bounds."""
    kinds = [(name, BOUNDS.get(name, kind)) for name, kind in get_type_hints(message).items()]
    fields = [(name, kind, DEFAULTS[name]) if name in DEFAULTS else (name, kind) for name, kind in kinds]
    return msgspec.json.Decoder(msgspec.defstruct(message.__name__, fields, rename=MESSAGE_NAMES))


def _bounded(kind: type[Decoded], **fields: Any) -> type[Decoded]:
    """The tuple's own kind, whose fields stay within their bounds when it is decoded: an array costs what it did."""
    bounds = {name: fields.get(name, BOUNDS.get(name, hint)) for name, hint in get_type_hints(kind).items()}
    return type(kind.__name__, (kind,), {"__annotations__": bounds, "__slots__": ()})


_DOCUMENT = msgspec.defstruct(
    "Document",
    [(name, hint, _LATER[name]) if name in _LATER else (name, hint) for name, hint in _DOCUMENT_HINTS.items()],
    kw_only=True,
)
_ENCODER = msgspec.json.Encoder()
_ANYTHING: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder()
_KIND = msgspec.json.Decoder(_Kind)
_CHANGE, _CREATION, _LOSER = _checked(ChangeCoupon), _checked(CreateCoupons), _checked(Loser)
_CREATION_NAMES = [MESSAGE_NAMES.get(name, name) for name in CreateCoupons._fields]
_LISTS: dict[str, Any] = {
    "history": Annotated[tuple[_bounded(HistoryEntry), ...], msgspec.Meta(min_length=1, max_length=HISTORY_MAX)],  # type: ignore[misc]
    "rejections": Annotated[tuple[_bounded(Rejection), ...], msgspec.Meta(max_length=REJECTIONS_MAX)],  # type: ignore[misc]
}
_CODE_OF_LENGTH = Annotated[str, msgspec.Meta(max_length=LENGTH)]  # a pattern costs as much as all the rest
_COUPON = msgspec.json.Decoder(_bounded(Coupon, code=_CODE_OF_LENGTH, **_LISTS))
_HISTORY: "msgspec.json.Decoder[tuple[HistoryEntry, ...]]" = msgspec.json.Decoder(_LISTS["history"])
_REJECTIONS: "msgspec.json.Decoder[tuple[Rejection, ...]]" = msgspec.json.Decoder(_LISTS["rejections"])
_HEAD_HINTS = {name: BOUNDS.get(name, hint) for name, hint in get_type_hints(Coupon).items() if name not in _LISTS}
_HEAD = msgspec.defstruct("Head", list(_HEAD_HINTS.items()), array_like=True)
_head = itemgetter(*map(Coupon._fields.index, _HEAD_HINTS))
_CODES: "msgspec.json.Decoder[tuple[str, ...]]" = msgspec.json.Decoder(BOUNDS["codes"])
_FENCE: "msgspec.json.Decoder[Fence | None]" = msgspec.json.Decoder(Fence | None)
_EPOCH_ENTRY: "msgspec.json.Decoder[tuple[str, int | None, Fence | None]]" = msgspec.json.Decoder(
    tuple[str, int | None, Fence | None]
)
