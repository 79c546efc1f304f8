"""Which dead letters are closed: those that an operator replayed or discarded. All others are open.

The queue cannot tell, because its messages never change. So the store has a record of each closed letter, by its id.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from coupon.applying.dead_letters import DeadLetter
from coupon.domain.errors import Malformed
from coupon.domain.serialization import INSTANT_MAX, decoded, dump
from coupon.ports.store import Record, Store

KIND = "closed-letter"
How = Literal["replayed", "discarded"]
Instant = Annotated[int, msgspec.Meta(ge=0, le=INSTANT_MAX)]


class Closing(msgspec.Struct, frozen=True):
    """How and when a letter was closed. ``letter_at`` is the letter's own time: a later letter with the same id, of a
    topic that was made again, is open."""

    how: How
    at: Instant
    letter_at: Instant


_CLOSING = msgspec.json.Decoder(Closing)


def closings(store: Store, letters: Sequence[DeadLetter]) -> list[Closing | None]:
    """Of each letter; None of an open one. Raises BackendUnavailable, BackendRejected."""
    records = store.get_records(KIND, [letter.id for letter in letters])
    return [_closing(letter, records.get(letter.id)) for letter in letters]


def close(store: Store, letters: Sequence[DeadLetter], how: How, at: int) -> None:
    """Record it of these letters. Of two operators who close a letter at the same time, one is recorded. Raises
    BackendUnavailable, BackendRejected."""
    records = store.get_records(KIND, [letter.id for letter in letters])
    groups = []
    for letter in {letter.id: letter for letter in letters}.values():
        revision = records[letter.id].revision + 1 if letter.id in records else 1
        body = dump(Closing(how, at, letter.at)).decode()
        groups.append([Record(KIND, letter.id, revision, body)])
    store.save_groups(groups)


def _closing(letter: DeadLetter, record: Record | None) -> Closing | None:
    if record is None:
        return None
    try:
        closing = decoded(_CLOSING, record.body)
    except Malformed:  # not ours: the letter is shown rather than hidden
        return None
    return closing if letter.at <= closing.letter_at else None
