"""Reading coupons of which some rows may be unreadable: such a row is logged, and holds up no other."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from coupon.domain.errors import Unreadable
from coupon.domain.model import Coupon
from coupon.ports.store import NONE, Store

log = structlog.get_logger("coupon.store")


class Reading(NamedTuple):
    """By code: the coupons that exist and can be read, and the reasons why the rest cannot."""

    coupons: dict[str, Coupon]
    unreadable: Mapping[str, str] = NONE


def read(store: Store, codes: Iterable[str]) -> Reading:
    """As ``Store.get_many``, but an unreadable row is logged and not raised. Raises BackendUnavailable."""
    try:
        return Reading(store.get_many(codes))
    except Unreadable as error:
        for code, reason in error.reasons.items():
            log.error("unreadable", code=code, error=reason)
        return Reading(error.found, error.reasons)
