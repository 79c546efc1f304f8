"""Search: queries by condition. A projection that may lag, converges to the store, and can be rebuilt from it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from coupon.domain.model import Coupon, Day
from coupon.domain.serialization import Document
from coupon.ports.backend import Backend


class Query(NamedTuple):
    """Two conditions, each of which matches all coupons when it is None. With both, both must hold.

    ``user_id``: a coupon that the user holds. ``unused_until``: one that is not used, and whose last day is that day.
    """

    user_id: str | None = None
    unused_until: Day | None = None


class Counts(NamedTuple):
    """How many coupons are ``free``, how many are ``issued`` and not used, and how many are ``used``."""

    free: int
    issued: int
    used: int


class Rebuild(ABC):
    """The next generation of the index. Queries go on reading the present one."""

    @abstractmethod
    def add_many(self, coupons: Sequence[Coupon]) -> None:
        """As ``Search.index_many``, into the next generation only."""


class Search(Backend):
    """Documents carry the coupon's version. An older one never overwrites a newer one, whatever the order and the
    repetitions. ``find`` returns a document a second or two after it was indexed."""

    @abstractmethod
    def create(self) -> None:
        """Make the index if it is missing. Idempotent. Several processes may do it at once.

        A backend that needs it raises BackendUnavailable until then, with a sentence that names ``coupon init``."""

    @abstractmethod
    def index_many(self, coupons: Sequence[Coupon]) -> None:
        """Write the document of each coupon, unless the same or a newer version is there, which is success.

        During a rebuild it writes to both generations. Raises BackendUnavailable when any document may not be written;
        doing it again is safe."""

    @abstractmethod
    def find(self, query: Query, limit: int, after: str = "") -> list[Document]:
        """Up to ``limit`` (1 to 10,000) matching documents whose coupon code is higher than ``after``, by code.

        Fewer than ``limit`` means that there are no more. Documents that somebody else wrote into the index are
        returned unchecked: see ``fault_of_document``."""

    @abstractmethod
    def count(self) -> Counts:
        """The numbers of documents by state, as up to date as ``find`` is. Those that somebody else wrote may count.

        It may read the whole index. Raises BackendUnavailable when that takes longer than ``timeout_s``."""

    @abstractmethod
    def rebuild(self) -> AbstractContextManager[Rebuild]:
        """Begin the next generation of the index, empty, also where there is no index. A clean exit makes it the
        present one, atomically; an error deletes it. Documents that workers index meanwhile are in both.

        There is one rebuild at a time: another one deletes what an earlier one left. That one then raises
        BackendRejected, at ``add_many`` and at its end, and changes nothing."""
