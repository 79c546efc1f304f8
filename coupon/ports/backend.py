"""The contract that all four roles share: opening, checking and closing a backend. It raises only BackendUnavailable
and BackendRejected (``coupon/domain/errors.py``).
"""

from abc import ABC, abstractmethod
from typing import Self

from coupon.ports.url import Url


class Backend(ABC):
    """A backend of any role.

    It opens lazily: neither ``from_url`` nor ``__init__`` starts a thread, or does any I/O. Only files of certificates
    that the URL names are read there. It may be made and used before a fork: a child makes connections of its own, and
    both sides go on. Every method is thread-safe. It returns or raises BackendUnavailable within its ``timeout_s`` and
    a little: half of it more, and a quarter of a second. It works again by itself when the server is back.

    What takes several requests has that time for each: ``create``, or a long list that is cut into chunks. A limit of
    results is 1 or more: nobody asks for less, and what a backend does then is not defined."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: Url) -> Self:
        """The backend that the URL describes; raises ConfigurationError for an unknown or impossible option."""

    @abstractmethod
    def ping(self) -> None:
        """Return when the server answers; else raise BackendUnavailable. It takes about a second at most."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections. Idempotent, never raises. Afterwards every method that asks the server raises
        BackendUnavailable."""
