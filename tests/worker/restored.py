"""A store recreated from a queue, and how it differs from what it was."""

from backends.store.memory import MemoryStore
from coupon.bulk.queue_history import Recorded
from coupon.bulk.restore import Counts, Restore
from coupon.bulk.scan import pages
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import Coupon
from coupon.domain.topics import all_topics
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends


def coupons_of(store: Store) -> dict[str, Coupon]:
    return {coupon.code: coupon for page in pages(store) for coupon in page}


def copied(store: Store) -> MemoryStore:
    """A backup."""
    copy = MemoryStore()
    copy.save_many([coupon._replace(revision=1) for coupon in coupons_of(store).values()])
    return copy


def restore(backends: Backends, settings: Settings, store: Store) -> Counts:
    """Make the store what ``backends.store`` is."""
    return restore_from(backends.queue, settings, store)


def restore_from(queue: Queue, settings: Settings, store: Store) -> Counts:
    recorded = Recorded(queue, all_topics(settings.topics))
    return Restore(queue, store, CodeDeriver(settings.secret), recorded).run()


def differences(before: Store, after: Store) -> dict[str, tuple[Coupon | None, Coupon | None]]:
    """By code; ``revision``, which counts writes, aside."""
    one, other = coupons_of(before), coupons_of(after)
    return {
        code: (one.get(code), other.get(code))
        for code in one.keys() | other.keys()
        if _told(one.get(code)) != _told(other.get(code))
    }


def _told(coupon: Coupon | None) -> Coupon | None:
    return coupon and coupon._replace(revision=0)
