"""The schemas of bodies: requests are loaded with them, and responses are documented with them."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from coupon.acceptance.operations import Status
from coupon.domain.model import Day, Kind
from coupon.domain.serialization import DOCUMENT_FIELDS, DocumentField, Instant
from coupon.web.fields import CODE_PATTERN, CouponCode, DayField, UserId, amount
from coupon.web.problems import TITLES

CREATED = "How many are stored for certain: it may lag behind by some, and is the amount when, and only when, all are."


class CamelCase(Schema):
    """A field is called ``couponCode`` in a body, and ``coupon_code`` inside."""

    def on_bind_field(self, name: str, field: fields.Field[Any]) -> None:
        first, *others = name.split("_")
        field.data_key = first + "".join(map(str.capitalize, others))


class Creation(CamelCase):
    """The coupons to create are valid from the start of one day to the end of another."""

    valid_from = DayField(required=True)
    expire_at = DayField(required=True)

    @validates_schema
    def ends_after_it_starts(self, data: dict[str, Any], **_: Any) -> None:
        if data["expire_at"] < data["valid_from"]:
            raise ValidationError("Must not be before validFrom.", "expireAt")


def creation(max_amount: int) -> Schema:
    """The schema of a creation of up to ``max_amount`` coupons."""
    return Creation.from_dict({"amount": amount(max_amount)}, name="Creation")()


class Issue(CamelCase):
    user_id = UserId(required=True)
    coupon_code = CouponCode(required=True)


class Use(CamelCase):
    coupon_code = CouponCode(required=True)
    user_id = UserId()


class Cancel(CamelCase):
    coupon_code = CouponCode(required=True)


class PageQuery(CamelCase):
    """The query parameters of a list."""

    limit = fields.Integer(load_default=100, validate=validate.Range(1, 1_000))
    cursor = fields.String(metadata={"description": "`next` of the page before."})


def _code(**options: Any) -> fields.String:
    return fields.String(metadata={"pattern": CODE_PATTERN, "example": "7QX2M-K4D9TZ-A81BC3EF"}, **options)


REJECTIONS = [code for code, (status, _) in TITLES.items() if status == 409] + ["IDEMPOTENCY_KEY_REUSED"]
_STATUS = fields.String(required=True, validate=validate.OneOf(list(Status)))
_NEXT = fields.String(
    required=True, allow_none=True, metadata={"description": "The next page's `cursor`; null on the last page."}
)


class Accepted(CamelCase):
    operation_id = fields.String(required=True)
    coupon_code = _code(required=True)
    status = _STATUS


class CreationAccepted(CamelCase):
    operation_id = fields.String(required=True)
    amount = fields.Integer(required=True)
    status = _STATUS
    created = fields.Integer(metadata={"description": f"With `Prefer: wait` only. {CREATED}"})
    coupon_codes = fields.List(
        _code(), metadata={"description": "Up to an amount of 1,000; beyond, at the operation's address."}
    )


class Operation(CamelCase):
    """The outcome of an operation. A change of one coupon has ``couponCode``, a creation has the other fields."""

    operation_id = fields.String(required=True)
    status = _STATUS
    code = fields.String(
        validate=validate.OneOf(REJECTIONS),
        metadata={"description": "Why it was rejected."},
    )
    detail = fields.String(metadata={"description": "The same in words."})
    coupon_code = _code()
    amount = fields.Integer()
    created = fields.Integer(metadata={"description": CREATED})
    coupon_codes = fields.List(_code())
    next = fields.String(allow_none=True, metadata={"description": "The `cursor` of the next page of codes."})


_FIELDS: dict[Any, type[fields.Field[Any]]] = {
    str: fields.String,
    bool: fields.Boolean,
    int: fields.Integer,
    Day: fields.Date,
    Instant: fields.DateTime,
}


def _field(field: DocumentField) -> fields.Field[Any]:
    """As the coupon's document declares it."""
    metadata = {"description": field.description} if field.description else {}
    return _FIELDS[field.kind](required=True, allow_none=field.is_optional or None, metadata=metadata)


_OF_COUPON = {name: _field(field) for name, field in DOCUMENT_FIELDS.items()} | {"couponCode": _code(required=True)}


class Coupon(CamelCase.from_dict(_OF_COUPON)):  # type: ignore[misc]
    """As it is declared in ``serialization.Document``."""


class HistoryEntry(CamelCase):
    """One command that was applied to the coupon."""

    operation_id = fields.String(required=True)
    command = fields.String(required=True, validate=validate.OneOf(list(Kind)))
    at = fields.DateTime(required=True)
    user_id = fields.String(required=True, allow_none=True)
    actor = fields.String(required=True)


class CouponWithHistory(Coupon):
    history = fields.List(fields.Nested(HistoryEntry), required=True)


class Coupons(CamelCase):
    items = fields.List(fields.Nested(Coupon), required=True)
    next = _NEXT


class Alive(CamelCase):
    status = fields.String(required=True)


class Dependency(CamelCase):
    status = fields.String(required=True, validate=validate.OneOf(["up", "down", "unknown"]))
    ms = fields.Float(required=True)
    problems = fields.List(
        fields.String(), metadata={"description": "What is wrong though it answers, in sentences; with a key only."}
    )


class Ready(CamelCase):
    status = fields.String(required=True)
    version = fields.String(metadata={"description": "Of the service; with a key only."})
    dependencies = fields.Dict(fields.String(), fields.Nested(Dependency), required=True)


class Problem(CamelCase):
    """RFC 9457."""

    type = fields.String(required=True, metadata={"format": "uri-reference"})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    code = fields.String(required=True, validate=validate.OneOf(list(TITLES)))
    detail = fields.String(metadata={"description": "What the title does not say, of this request."})
    errors = fields.Dict(
        fields.String(), fields.List(fields.String()), metadata={"description": "What is wrong, by field."}
    )
    roles = fields.List(fields.String(), metadata={"description": "The roles that may do it."})
    version = fields.String(metadata={"description": "At `/readyz` only, as where it is ready."})
    dependencies = fields.Dict(
        fields.String(), fields.Nested(Dependency), metadata={"description": "At `/readyz` only, as where it is ready."}
    )
