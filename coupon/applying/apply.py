"""Carrying commands out in the store: read, decide, save on condition; what lost its condition is decided again."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from coupon.applying.safe_reads import read
from coupon.domain.chunks import codes_of, is_marked
from coupon.domain.codes import Mint
from coupon.domain.model import WHOLE, Command, Coupon, CreateCoupons, create
from coupon.domain.protocol import Verdict, settle
from coupon.ports.backend import BackendUnavailable
from coupon.ports.store import Store, fault

ATTEMPTS = 20
"""How often a coupon may have changed between our read and our write before we take a break."""


class DeploymentError(Exception):
    """The processes do not fit together, and going on would do harm: the worker stops and says why."""


class Settled(NamedTuple):
    """The verdict on each command, None for a coupon that the store does not have, and the coupons as they are now.
    None also where what the store has is no coupon: ``unreadable`` says why, by code."""

    verdicts: list[Verdict | None]
    coupons: dict[str, Coupon]
    unreadable: dict[str, str]


def change(store: Store, commands: Sequence[Command], may_wait: Callable[[int], bool]) -> Settled:
    """Settle the commands in their order; ``may_wait`` is asked of those whose predecessor is not there, by their
    number here."""

    def decide(place: int, coupon: Coupon) -> tuple[Verdict, Coupon]:
        verdict, after = settle(coupon, commands[place], wait=True)
        if verdict is Verdict.WAITING and not may_wait(place):
            return settle(coupon, commands[place], wait=False)
        return verdict, after

    return decide_all(store, [command.code for command in commands], decide)


def decide_all(store: Store, codes: Sequence[str], decide: Callable[[int, Coupon], tuple[Verdict, Coupon]]) -> Settled:
    """Decide on the coupons in this order: ``decide`` is given a place in it and the coupon as it is by then, perhaps
    several times, and returns the very same coupon when nothing changes. Several decisions on one are one write."""
    verdicts: list[Verdict | None] = [None] * len(codes)
    settled: dict[str, Coupon] = {}
    unreadable: dict[str, str] = {}
    todo = list(range(len(codes)))
    for _ in range(ATTEMPTS):
        found, reasons = read(store, {codes[place] for place in todo})
        unreadable |= {code: fault(code, reason) for code, reason in reasons.items()}
        after = dict(found)
        for place in todo:
            if codes[place] in after:
                verdicts[place], after[codes[place]] = decide(place, after[codes[place]])
        changed = [
            coupon._replace(revision=found[code].revision + 1)
            for code, coupon in after.items()
            if coupon is not found[code]
        ]
        conflicts = store.save_many(changed)
        settled |= {code: coupon for code, coupon in after.items() if code not in conflicts}
        todo = [place for place in todo if codes[place] in conflicts]
        if not todo:
            return Settled(verdicts, settled, unreadable)
    raise BackendUnavailable(f"{codes[todo[0]]} changed {ATTEMPTS} times between our read and our write")


def create_all(store: Store, chunks: Sequence[CreateCoupons], mint: Mint) -> dict[str, Coupon]:
    """Create what is not there; an existing coupon is left as it is. The markers are written last; an imported chunk's
    marker says whether the chunk is wholly its operation's. Returns all of the chunks' coupons as they are now, without
    those that cannot be read."""
    coupons: dict[str, Coupon] = {}
    marked: dict[str, CreateCoupons] = {}
    for chunk in chunks:
        codes = codes_of(chunk, mint)
        if is_marked(chunk):
            marked.setdefault(codes[-1], chunk)  # a chunk may be there twice
        for code in codes:
            coupons.setdefault(code, create(chunk, code))
    markers = {code: coupons.pop(code) for code in marked}
    coupons = _saved(store, coupons)
    for code, chunk in marked.items():
        if (
            chunk.codes
            and markers[code].created_by == chunk.operation
            and all(other in coupons and coupons[other].created_by == chunk.operation for other in chunk.codes[:-1])
        ):
            markers[code] = markers[code]._replace(batch=WHOLE)
    return coupons | _saved(store, markers)


def _saved(store: Store, coupons: dict[str, Coupon]) -> dict[str, Coupon]:
    """The new coupons, or those that were there before."""
    if not coupons:
        return {}
    there = store.save_many(list(coupons.values()))
    return {code: coupon for code, coupon in coupons.items() if code not in there} | read(store, there).coupons
