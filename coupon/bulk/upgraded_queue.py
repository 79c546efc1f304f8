"""Which messages of a queue may be unsigned, or signed with a retired key: those that were there before."""

from coupon.domain.errors import BackendRejected, ConfigurationError
from coupon.domain.topics import LAYOUTS, all_topics
from coupon.ports.queue import Position
from coupon.ports.store import Store
from coupon.runtime.keyring import Keys
from coupon.runtime.older_messages import UNSIGNED, Older, change, with_ends, with_key
from coupon.runtime.signed_queue import SignedQueue
from coupon.runtime.worker_registry import show

ANOTHER = (
    "COUPON_SECRET is another one than at the first coupon init, and may not change: where that leaked, run"
    " coupon rotate-secret; where it is lost, coupon init --new-secret"
)


def settle(
    queue: SignedQueue, store: Store, keys: Keys, *, take_unsigned: bool = False, new_secret: bool = False
) -> int | None:
    """Record that these keys are ours, and that unsigned messages are refused from the present ends on. Returns the
    number of offsets before these ends. ``take_unsigned``: none is refused until the next call, and None is returned.
    ``new_secret``: the former one is lost. What it has signed is forged then, because nobody can check it.

    Where it was done before, nothing changes, but for topics that were recreated. Where the store has no record, it may
    have been lost with it. Then unsigned messages behind the first signed one are refused, too. Raises
    ConfigurationError for keys of another secret, and BackendUnavailable."""
    ends = _ends(queue)

    def settled(older: Older) -> Older:
        is_new = not older.keys or (new_secret and keys.root not in older.keys)
        if not is_new and keys.root not in older.keys:
            raise ConfigurationError(ANOTHER)
        if is_new:
            older = _with_new_secret(older, keys)
        if take_unsigned:
            return with_ends(older, UNSIGNED, None)
        before = older.before.get(UNSIGNED) if UNSIGNED in older.before else _first_signed(queue, ends)
        kept = before if before is not None else ends
        return with_ends(older, UNSIGNED, {at: min(end, kept.get(at, 0)) for at, end in ends.items()})

    unsigned = change(store, settled).before[UNSIGNED]
    return None if unsigned is None else sum(unsigned.values())


def _with_new_secret(older: Older, keys: Keys) -> Older:
    """The record with these keys. Others that it has are lost: nothing that they have signed is taken."""
    for key_id in older.keys:
        if key_id not in keys.by_id:
            older = with_ends(older, key_id, {})
    for key_id in keys.by_id:
        older = with_key(older, key_id)
    return older


def retire(queue: SignedQueue, store: Store, key_id: str) -> None:
    """Take what this key has signed up to the present ends, and nothing later. Raises BackendUnavailable."""
    ends = _ends(queue)
    change(store, lambda older: older if key_id in older.before else with_ends(older, key_id, ends))


def _first_signed(queue: SignedQueue, ends: dict[str, int]) -> dict[str, int]:
    """By partition, the offset before which messages may be unsigned: that of the first one that is signed. It is 0 in
    a partition without any, when another partition has one. Where none has, the queue is of an earlier version."""
    first = {at: queue.first_signed(Position(*_parts(at))) for at in ends}
    if all(offset is None for offset in first.values()):
        return ends
    return {at: offset or 0 for at, offset in first.items()}


def _parts(at: str) -> tuple[str, int]:
    topic, _, partition = at.rpartition("/")
    return topic, int(partition)


def _ends(queue: SignedQueue) -> dict[str, int]:
    """Of the topics of all layouts that exist: the service may have had another layout once."""
    ends: dict[Position, int] = {}
    for topic in dict.fromkeys(topic for layout in LAYOUTS for topic in all_topics(layout)):
        try:
            ends |= queue.ends([topic])
        except BackendRejected:
            continue
    return {show(position): end for position, end in ends.items()}
