"""The store made anew from the queue alone, beginning with nothing or with an older one: it has to come to the same."""

from collections.abc import Iterator, Mapping

from coupon.codes import Mint
from coupon.model import Coupon
from coupon.ports.queue import Queue
from coupon.recorded import Recorded
from coupon.restoring import Restore
from coupon.settings import Settings
from coupon.topics import all_topics
from tests.proof.lineage import Violation
from tests.proof.simulation.witnesses import WitnessStore

AS_IT_WAS = "the queue alone makes every coupon as it was"


def is_restored(
    before: Mapping[str, Coupon], after: WitnessStore, queue: Queue, settings: Settings
) -> Iterator[Violation]:
    """Nothing when ``coupon restore``, on the store as it was ``before``, gives the store as it is."""
    name = f"on {'an older' if before else 'an empty'} store, {settings.topics}"
    restored = restore(before, queue, settings)
    for code, coupon in after.snapshot().items():
        other = restored.get(code)
        if other is None or _told(other) != _told(coupon):
            yield Violation(AS_IT_WAS, f"{name}: {code} {_difference(other, coupon)}")


def restore(before: Mapping[str, Coupon], queue: Queue, settings: Settings) -> dict[str, Coupon]:
    """What the queue makes of a store."""
    store = WitnessStore(lambda: 0.0)
    store.restore(dict(before))
    Restore(queue, store, Mint(settings.secret), Recorded(queue, all_topics(settings.topics))).run()
    return store.snapshot()


def _told(coupon: Coupon) -> Coupon:
    """All that a client can learn of it: not how often it was written, nor in which order it rejected what. Of two
    attempts of its creation, which are in two partitions, either may be the first."""
    born = coupon.history[0]._replace(at=0) if coupon.version == len(coupon.history) else coupon.history[0]
    return coupon._replace(
        revision=0,
        created_at=0,
        modified_at=coupon.modified_at if coupon.version > 1 else 0,
        history=(born, *coupon.history[1:]),
        rejections=tuple(sorted(coupon.rejections)),
    )


def _difference(restored: Coupon | None, coupon: Coupon) -> str:
    """What is other than it was."""
    if restored is None:
        return "is missing"
    pairs = zip(Coupon._fields, _told(restored), _told(coupon), strict=True)
    return "; ".join(f"{name}: {one} instead of {other}" for name, one, other in pairs if one != other)
