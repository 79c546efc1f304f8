"""Many documents in one request: its body, and the result for each document in the response."""

from collections.abc import Sequence
from typing import Any

from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.domain.model import Coupon
from coupon.domain.serialization import document, dump

CONFLICT = "version_conflict_engine_exception"
NO_INDEX = "index_not_found_exception"
FILTER = "errors,items.*.status,items.*.error.type,items.*.error.reason"
"""The parts of the response that are requested."""


class NoIndex(BackendUnavailable):
    """None of the generations exists."""


def operations(coupons: Sequence[Coupon], aliases: Sequence[str]) -> list[Any]:
    """The body: each coupon's document for each alias. The version is the coupon's, and an older one is refused."""
    lines: list[Any] = []
    for coupon in coupons:
        source = dump(document(coupon))
        for alias in aliases:
            target = {"_index": alias, "_id": coupon.code, "version": coupon.version, "version_type": "external"}
            lines += [dump({"index": target}), source]
    return lines


def check(coupons: Sequence[Coupon], outcomes: Sequence[dict[str, Any]]) -> None:
    """Raise unless every document, or a newer one, is in every generation that exists. ``outcomes`` are in the order of
    ``operations``. A missing generation is no error: a rebuild ended meanwhile."""
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
    """Whether a retry may help. It may for wrong credentials: an operator repairs them while documents wait."""
    return status in (401, 403, 404, 408, 429) or status >= 500 or error_type == "cluster_block_exception"


def _is_error(outcome: dict[str, Any]) -> bool:
    return "error" in outcome and outcome["error"]["type"] != CONFLICT


def _failed(failures: list[tuple[str, dict[str, Any]]]) -> BackendUnavailable | BackendRejected:
    """The error of several failures: BackendUnavailable when a retry may help one of them."""
    passing = [(code, item) for code, item in failures if may_pass(item["status"], item["error"]["type"])]
    code, item = (passing or failures)[0]
    sentence = f"{len(failures)} not indexed, one is {code}: {item['status']} {item['error'].get('reason')}"
    return BackendUnavailable(sentence) if passing else BackendRejected(sentence)
