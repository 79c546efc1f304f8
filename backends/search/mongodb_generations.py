"""Which generations of the index there are: a log, whose last row is in force.

``{"_id": 7, "present": "coupon.5f0c…", "next": "coupon.91ab…"}``: queries read ``present``, writers write to both.

A change inserts the row with the next number. The key is unique, so of several that change the same row one does. That
is all that it takes for an atomic change, and any server has it. Rows are never deleted: a number that was free again
would let somebody who was asleep for long believe that his change is in force. A rebuild adds two.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from coupon.domain.errors import BackendUnavailable

LOOK_S = 1.0
"""How long a process relies on its last look at the log."""


class State(NamedTuple):
    number: int = 0
    present: str | None = None
    next: str | None = None

    @property
    def generations(self) -> list[str]:
        """The names of the collections to write to."""
        return [name for name in (self.present, self.next) if name is not None]


class Look(NamedTuple):
    """``at`` is a moment before it, by the monotonic clock."""

    at: float
    state: State

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.at < LOOK_S


class Generations:
    """Thread-safe, and shared by all processes that have the same database and index."""

    def __init__(self, database: Callable[[], Database[Any]], index: str) -> None:
        self._database, self._index = database, index
        self._last = Look(float("-inf"), State())

    def recent(self) -> Look:
        """The last look if it is recent; else another one."""
        last = self._last
        return last if last.is_recent and last.state.generations else self.look()

    def look(self) -> Look:
        at = time.monotonic()
        row = self._log.find_one({"_id": {"$gt": 0}}, sort=[("_id", -1)])
        self._last = look = Look(at, State() if row is None else _state(row))
        return look

    def change(self, old: State, present: str | None, following: str | None) -> bool:
        """Replace the state by the one with these two. False when it is not in force any more, which changes
        nothing."""
        row = {"_id": old.number + 1, "present": present, "next": following}
        try:
            self._log.insert_one(dict(row))
        except DuplicateKeyError:  # ours, where the driver sent it twice
            return self._log.find_one({"_id": row["_id"]}) == row
        return True

    def new_name(self) -> str:
        return f"{self._index}.{secrets.token_hex(8)}"

    def dead(self) -> list[str]:
        """Collections of generations that are in force no more. Those whose names were announced after the list was
        made are not on it."""
        names = self._database().list_collection_names(filter={"name": {"$regex": rf"^{self._index}\.[0-9a-f]{{16}}$"}})
        alive = self.look().state.generations
        return [name for name in names if name not in alive]

    @property
    def _log(self) -> Collection[Any]:
        return self._database()[f"{self._index}.generations"]


def _state(row: dict[str, Any]) -> State:
    number, present, following = row["_id"], row.get("present"), row.get("next")
    if not all(name is None or isinstance(name, str) for name in (present, following)):
        raise BackendUnavailable(f"the log of the index's generations has a row that is not Coupon's: {row!r:.200}")
    return State(int(number), present, following)
