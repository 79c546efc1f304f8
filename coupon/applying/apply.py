"""Applying commands to the store: read, decide, save with a condition. After a conflict the decision is made again."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from coupon.applying.safe_reads import Reading, read
from coupon.domain.chunks import codes_of, is_marked
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable, fault
from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons, create_all
from coupon.domain.protocol import Verdict, decide, decide_ahead
from coupon.ports.store import Store

NONE: Mapping[str, Coupon] = MappingProxyType({})
ATTEMPTS = 20
"""Reads and writes of a coupon in one call, each after a conflict with another writer."""


class Applied(NamedTuple):
    """The result of a batch. ``verdicts`` has one for each command, in order: None when its coupon does not exist or
    cannot be read. By code, ``coupons`` has the coupons as they are now, ``unreadable`` the reasons."""

    verdicts: list[Verdict | None]
    coupons: dict[str, Coupon]
    unreadable: dict[str, str]


def apply_changes(store: Store, commands: Sequence[ChangeCoupon], may_wait: Callable[[int], bool]) -> Applied:
    """Apply the commands in their order. ``may_wait`` is called with the index of a command whose predecessor is
    missing. It returns True to defer that command, and False to reject it."""

    def decide_one(index: int, coupon: Coupon) -> tuple[Verdict, Coupon]:
        verdict, after = decide(coupon, commands[index], wait=True)
        if verdict is Verdict.DEFERRED and not may_wait(index):
            return decide(coupon, commands[index], wait=False)
        return verdict, after

    return apply_each(store, [command.code for command in commands], decide_one)


def apply_ahead(
    store: Store, commands: Sequence[ChangeCoupon], known: Mapping[str, Coupon] = NONE
) -> dict[str, Coupon]:
    """Apply those of the commands that are next, in the order of their versions, and leave the others to the worker.
    Returns the coupons by code as they are now, without the unreadable ones. Raises BackendUnavailable.

    ``known``: coupons as the store had them, which need not be read."""
    commands = sorted(commands, key=lambda command: command.previous_version)
    codes = [command.code for command in commands]
    return apply_each(store, codes, lambda index, coupon: decide_ahead(coupon, commands[index]), known).coupons


def apply_each(
    store: Store,
    codes: Sequence[str],
    decide_one: Callable[[int, Coupon], tuple[Verdict, Coupon]],
    known: Mapping[str, Coupon] = NONE,
) -> Applied:
    """Decide on the coupons in this order, and save those that changed.

    ``decide_one`` is called with an index of ``codes`` and the coupon as it is by then; after a conflict, again. It
    returns the same object when nothing changes. Several decisions on one coupon are one write. Raises
    BackendUnavailable, also after ``ATTEMPTS`` conflicts. Coupons that are ``known`` are read only after a conflict.
    """
    verdicts: list[Verdict | None] = [None] * len(codes)
    coupons: dict[str, Coupon] = {}
    unreadable: dict[str, str] = {}
    left = list(range(len(codes)))
    for _ in range(ATTEMPTS):
        wanted = {codes[index] for index in left}
        missing = wanted - known.keys()
        read_now, reasons = read(store, missing) if missing else Reading({})
        unreadable |= {code: fault(code, reason) for code, reason in reasons.items()}
        read_now |= {code: known[code] for code in wanted & known.keys()}
        known = NONE
        after = dict(read_now)
        for index in left:
            if codes[index] in after:
                verdicts[index], after[codes[index]] = decide_one(index, after[codes[index]])
        changed = [
            coupon._replace(revision=read_now[code].revision + 1)
            for code, coupon in after.items()
            if coupon is not read_now[code]
        ]
        conflicts = store.save_many(changed)
        coupons |= {code: coupon for code, coupon in after.items() if code not in conflicts}
        left = [index for index in left if codes[index] in conflicts]
        if not left:
            return Applied(verdicts, coupons, unreadable)
    raise BackendUnavailable(f"{codes[left[0]]} changed {ATTEMPTS} times between our read and our write")


def apply_creations(store: Store, chunks: Sequence[CreateCoupons], code_deriver: CodeDeriver) -> dict[str, Coupon]:
    """Create the coupons that do not exist; existing ones stay as they are. The markers are written last. Returns the
    chunks' coupons as they are now, without the unreadable ones.

    The marker of an imported chunk records whether its operation created every coupon of the chunk."""
    coupons: dict[str, Coupon] = {}
    marked: dict[str, CreateCoupons] = {}
    for chunk in chunks:
        codes = codes_of(chunk, code_deriver)
        if is_marked(chunk):
            marked.setdefault(codes[-1], chunk)  # a chunk may be there twice
        for coupon in create_all(chunk, codes):
            coupons.setdefault(coupon.code, coupon)
    markers = {code: coupons.pop(code) for code in marked}
    coupons = _saved(store, coupons)
    for code, chunk in marked.items():
        if (
            chunk.codes
            and markers[code].created_by == chunk.operation
            and all(other in coupons and coupons[other].created_by == chunk.operation for other in chunk.codes[:-1])
        ):
            markers[code] = markers[code]._replace(chunk_complete=True)
    return coupons | _saved(store, markers)


def _saved(store: Store, coupons: dict[str, Coupon]) -> dict[str, Coupon]:
    """The coupons that were created, and those that existed before."""
    if not coupons:
        return {}
    existing = store.save_many(list(coupons.values()))
    return {code: coupon for code, coupon in coupons.items() if code not in existing} | read(store, existing).coupons
