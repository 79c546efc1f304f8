"""Search: queries by condition. A projection that may lag, converges to the store, and can be rebuilt from it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from coupon.domain.model import Coupon, Day
from coupon.domain.serialization import Document
from coupon.ports.backend import Backend


class Query(NamedTuple):
    """All coupons held by a user, or all that are not used and have that day as their last; both given: both must hold;
    neither: all coupons."""

    user_id: str | None = None
    unused_until: Day | None = None


class Rebuild(ABC):
    """The next generation of the index, while the present one goes on answering."""

    @abstractmethod
    def add_many(self, coupons: Sequence[Coupon]) -> None:
        """As ``Search.index_many``, into the next generation only."""


class Search(Backend):
    """Documents carry the coupon's version. An older one never overwrites a newer one, in any order, any number of
    times. What was indexed is found after at most a second or two."""

    @abstractmethod
    def create(self) -> None:
        """Make the index if it is missing. Idempotent. A backend that needs it raises BackendUnavailable until then,
        with a sentence that names ``coupon init``."""

    @abstractmethod
    def index_many(self, coupons: Sequence[Coupon]) -> None:
        """Write the document of each coupon unless a newer or the same version is there, which is success. While a
        rebuild is under way, into both generations. Raises BackendUnavailable when any of them may not be
        written; doing it again is safe."""

    @abstractmethod
    def find(self, query: Query, limit: int, after: str = "") -> list[Document]:
        """Up to ``limit`` matching documents by ascending coupon code, those after the code ``after`` only. Fewer than
        ``limit`` means that there are no more. ``limit`` is 1 to 10,000. What somebody else wrote into the index is
        given as it is: the caller checks it."""

    @abstractmethod
    def rebuild(self) -> AbstractContextManager[Rebuild]:
        """Begin the next generation of the index, empty. On a clean exit it takes the place of the present one at once;
        on an error it is thrown away. Documents that workers index meanwhile are in both. One at a time:
        beginning another discards what an interrupted one left."""
