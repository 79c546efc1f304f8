"""The fields of request bodies, and the values that they become."""

import re
from datetime import date
from functools import lru_cache
from typing import Any

from marshmallow import ValidationError, fields, validate

from coupon.domain.codes import parse
from coupon.domain.errors import InvalidCode
from coupon.domain.model import Day

USER_ID_MAX = 128
# Control characters, and lone surrogates, which have no UTF-8.
UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
CODE_PATTERN = "^[A-Z0-9]{5}-[A-Z0-9]{6}-[A-Z0-9]{8}$"
_DAY = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")


def fault_of_user_id(text: str) -> str | None:
    """A sentence with the error in a user's id; None when it is valid."""
    if not 1 <= len(text) <= USER_ID_MAX:
        return f"Has to have 1 to {USER_ID_MAX} characters."
    return "Must not hold control characters." if UNFIT.search(text) else None


class UserId(fields.String):
    """Any text of 1 to 128 characters, none of them a control character."""

    def __init__(self, **options: Any) -> None:
        metadata = {"minLength": 1, "maxLength": USER_ID_MAX, "description": "No control characters."}
        super().__init__(metadata=metadata, **options)

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, *args, **options)
        if fault := fault_of_user_id(text):
            raise ValidationError(fault)
        return text


class CouponCode(fields.String):
    """A coupon's code, with or without dashes, in any case; it becomes the stored form."""

    def __init__(self, **options: Any) -> None:
        metadata = {"description": "19 letters and digits, with or without dashes, in any case.", "minLength": 19}
        super().__init__(metadata=metadata, **options)

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> str:
        try:
            return parse(super()._deserialize(value, *args, **options))
        except InvalidCode as error:
            raise ValidationError(str(error)) from error


class DayField(fields.String):
    """A day, written ``2026-11-22`` or ``20261122``; it becomes the former."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"format": "date", "description": "Also without dashes: `20261122`."}, **options)

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> Day:
        return _day(super()._deserialize(value, *args, **options))


@lru_cache(maxsize=1_000)
def _day(text: str) -> Day:
    match = _DAY.fullmatch(text)
    if match is None:
        raise ValidationError("Has to be a day such as 2026-11-22.")
    try:
        return Day(date.fromisoformat("-".join(match.groups())).isoformat())
    except ValueError as error:
        raise ValidationError("There is no such day in the calendar.") from error


def amount(maximum: int) -> fields.Integer:
    """A whole number of coupons."""
    return fields.Integer(required=True, strict=True, validate=validate.Range(1, maximum))
