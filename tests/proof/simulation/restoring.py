"""The store recreated from the queue alone, beginning with nothing or with an older one: it has to come to the same."""

from collections.abc import Iterable, Iterator, Mapping

from backends.store.memory import MemoryStore
from coupon.bulk.queue_history import Recorded
from coupon.bulk.restore import Restore
from coupon.bulk.scan import pages
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons, number_of
from coupon.domain.topics import all_topics
from coupon.ports.queue import Queue
from coupon.runtime.settings import Settings
from tests.proof.lineage import Node, Violation, made
from tests.proof.simulation.witnesses import WitnessStore

AS_IT_WAS = "the queue alone makes every coupon as it was"


def is_restored(
    before: Mapping[str, Coupon],
    after: WitnessStore,
    queue: Queue,
    settings: Settings,
    commands: Iterable[ChangeCoupon | CreateCoupons],
) -> Iterator[Violation]:
    """Nothing when ``coupon restore``, on the store as it was ``before``, gives the store as it is."""
    name = f"on {'an older' if before else 'an empty'} store, {settings.topics}"
    twice = sent_twice(commands)
    restored = restore(before, queue, settings)
    for code, coupon in after.snapshot().items():
        other = restored.get(code)
        if other is None or _told(other, twice) != _told(coupon, twice):
            yield Violation(AS_IT_WAS, f"{name}: {code} {_difference(other, coupon, twice)}")


def restore(before: Mapping[str, Coupon], queue: Queue, settings: Settings) -> dict[str, Coupon]:
    """What the queue makes of a store."""
    store = MemoryStore()
    store.save_many([coupon._replace(revision=1) for coupon in before.values()])
    Restore(queue, store, CodeDeriver(settings.secret), Recorded(queue, all_topics(settings.topics))).run()
    return {coupon.code: coupon for page in pages(store) for coupon in page}


def sent_twice(commands: Iterable[ChangeCoupon | CreateCoupons]) -> set[Node]:
    """The attempts of which the queue has two messages, with two instants: a request that was sent again goes on with
    what it had reserved. Either message may be the one that is applied first."""
    instants: dict[Node, set[int]] = {}
    for command in commands:
        number = command.number if isinstance(command, ChangeCoupon) else 1
        instants.setdefault((command.operation, number), set()).add(command.accepted_at)
    return {node for node, found in instants.items() if len(found) > 1}


def _told(coupon: Coupon, twice: set[Node]) -> Coupon:
    """All that a client can learn of the coupon.

    That is not how often it was written, and by whom. Nor is it the order of its rejections, nor the time of what was
    sent twice.
    """
    open_ = [entry for entry in coupon.history if made(entry) in twice]
    kept = coupon._replace(
        revision=0,
        ahead=0,
        history=tuple(entry._replace(at=0) if entry in open_ else entry for entry in coupon.history),
        rejections=tuple(
            sorted(r._replace(at=0) if (r.operation, number_of(r)) in twice else r for r in coupon.rejections)
        ),
    )
    unsure = {entry.at for entry in open_}
    times = ("created_at", "modified_at", "issued_at", "used_at")
    return kept._replace(**{name: 0 for name in times if getattr(coupon, name) in unsure})


def _difference(restored: Coupon | None, coupon: Coupon, twice: set[Node]) -> str:
    """What is other than it was."""
    if restored is None:
        return "is missing"
    pairs = zip(Coupon._fields, _told(restored, twice), _told(coupon, twice), strict=True)
    return "; ".join(f"{name}: {one} instead of {other}" for name, one, other in pairs if one != other)
