"""Many documents in one request: what is sent, and what the answer says of each."""

from collections.abc import Sequence
from typing import Any

from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Coupon
from coupon.domain.serialization import document, dump

CONFLICT = "version_conflict_engine_exception"
NO_INDEX = "index_not_found_exception"
FILTER = "errors,items.*.status,items.*.error.type,items.*.error.reason"
"""What to ask for of the answer."""


class NoIndex(BackendUnavailable):
    """Not one of the generations is there."""


def operations(coupons: Sequence[Coupon], aliases: Sequence[str]) -> list[Any]:
    """Each coupon's document into each of the generations. The version is the coupon's: an older one is refused."""
    lines: list[Any] = []
    for coupon in coupons:
        source = dump(document(coupon))
        for alias in aliases:
            target = {"_index": alias, "_id": coupon.code, "version": coupon.version, "version_type": "external"}
            lines += [dump({"index": target}), source]
    return lines


def check(coupons: Sequence[Coupon], outcomes: Sequence[dict[str, Any]]) -> None:
    """Raise unless every document, or a newer one, is in every generation that there is. ``outcomes`` are in the order
    of ``operations``. A generation that is gone is none to be written to: a rebuild ended meanwhile."""
    each = len(outcomes) // len(coupons)
    failures = []
    for number, coupon in enumerate(coupons):
        errors = [item for item in outcomes[number * each : (number + 1) * each] if _is_error(item)]
        if errors and all(item["error"]["type"] == NO_INDEX for item in errors):
            if len(errors) == each:
                raise NoIndex(f"{coupon.code}: {errors[0]['error']['reason']}")
            continue
        failures += [(coupon.code, item) for item in errors if item["error"]["type"] != NO_INDEX]
    if failures:
        raise _failed(failures)


def may_pass(status: int, error_type: str) -> bool:
    """Whether asking again may help; credentials can be mended while documents wait."""
    return status in (401, 403, 404, 408, 429) or status >= 500 or error_type == "cluster_block_exception"


def _is_error(outcome: dict[str, Any]) -> bool:
    return "error" in outcome and outcome["error"]["type"] != CONFLICT


def _failed(failures: list[tuple[str, dict[str, Any]]]) -> BackendUnavailable | BackendRejected:
    """Of several kinds of failure, the one that is worth trying again for comes first."""
    passing = [(code, item) for code, item in failures if may_pass(item["status"], item["error"]["type"])]
    code, item = (passing or failures)[0]
    sentence = f"{len(failures)} not indexed, one is {code}: {item['status']} {item['error'].get('reason')}"
    return BackendUnavailable(sentence) if passing else BackendRejected(sentence)
