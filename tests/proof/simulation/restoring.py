"""The store made anew from the queue alone, beginning with nothing or with an older one: it has to come to the same."""

from collections.abc import Iterator, Mapping
from random import Random

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryQueue
from backends.search.memory import MemorySearch
from coupon.carrying_out import DeploymentError
from coupon.drain import Worker
from coupon.model import Coupon
from coupon.ports.backend import BackendError
from coupon.settings import Settings
from coupon.topics import GROUP, all_topics, command_topics
from coupon.wiring import Backends
from tests.proof.lineage import Violation
from tests.proof.simulation.witnesses import WitnessStore

AS_IT_WAS = "the queue alone makes every coupon as it was"
RESTORED_AT_MS = 1_900_000_000_000
ROUNDS_MAX, IDLE_MS = 2_000, 5_000
"""So often workers may come round without an end; when none of them finds anything, time passes."""


class NoEnd(Exception):
    """The restore stopped, or goes on for ever."""


def is_restored(
    before: Mapping[str, Coupon], after: WitnessStore, queue: MemoryQueue, settings: Settings, random: Random
) -> Iterator[Violation]:
    """Nothing when the whole queue, carried out on the store as it was ``before``, gives the store as it is."""
    name = f"on {'an older' if before else 'an empty'} store, {settings.topics}"
    try:
        restored = restore(before, queue, settings, random)
    except NoEnd as error:
        yield Violation(AS_IT_WAS, f"{name}: {error}")
        return
    for code, coupon in after.snapshot().items():
        other = restored.get(code)
        if other is None or _told(other) != _told(coupon):
            yield Violation(AS_IT_WAS, f"{name}: {code} {_difference(other, coupon)}")


def restore(before: Mapping[str, Coupon], queue: MemoryQueue, settings: Settings, random: Random) -> dict[str, Coupon]:
    """What workers make of the queue's messages; raises NoEnd."""
    time = [RESTORED_AT_MS]
    store, again = WitnessStore(lambda: time[0] / 1000), MemoryQueue(queue.partitions, 1e9, lambda: time[0] / 1000)
    store.restore(dict(before))
    again.create(all_topics(settings.topics))
    topics = command_topics(settings.topics)
    again.logs |= {position: list(log) for position, log in queue.logs.items() if position.topic in topics}
    backends = Backends(MemoryCache(lambda: time[0] / 1000), again, store, MemorySearch())
    workers = [Worker(backends, settings, clock=lambda: time[0], timer=lambda: time[0]) for _ in range(2)]
    for _ in range(ROUNDS_MAX):
        worker = random.choice(workers)
        try:
            if not worker.run_once(0):
                time[0] += IDLE_MS
        except DeploymentError as error:
            raise NoEnd(f"a worker stopped: {error}") from error
        except BackendError:
            worker.rewind()
            time[0] += IDLE_MS
        if again.lag(topics, GROUP) == 0:
            return store.snapshot()
    raise NoEnd(f"{again.lag(topics, GROUP)} messages are left")


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
