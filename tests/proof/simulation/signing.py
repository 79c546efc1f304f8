"""The simulated queue with its signatures. The store answers past all faults what it is asked about them."""

from collections.abc import Iterable, Iterator

from coupon.bulk.upgraded_queue import settle
from coupon.domain.model import Coupon
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.keyring import Keyring, keys_of
from coupon.runtime.older_messages import OlderMessages
from coupon.runtime.signed_queue import SignedQueue
from tests.proof.checker import Violation
from tests.proof.simulation.planted import FORGER, MINTED


class Signing:
    """As after `coupon init`, on an empty queue."""

    def __init__(self, secret: str, queue: Queue, store: Store) -> None:
        self._secret, self._store = secret, store
        self.queue = self.of_process(queue)
        """Past all faults."""
        settle(self.queue, store, keys_of(secret, []))

    def of_process(self, queue: Queue) -> SignedQueue:
        """The queue as a process has it."""
        return SignedQueue(queue, Keyring(self._secret, ""), OlderMessages(self._store))


def nobody_forged(coupons: Iterable[Coupon]) -> Iterator[Violation]:
    """Nothing when what was written into a topic without a key had no effect."""
    for coupon in coupons:
        if coupon.code == MINTED or any(entry.actor == FORGER for entry in coupon.history):
            yield Violation("nobody forges", f"{coupon}")
