"""What the four roles share: how a backend is opened, asked and closed, and the two ways in which it fails.

BackendError
├── BackendUnavailable   no (clear) answer: retrying may help; what was asked may have happened or not
└── BackendRejected      refused for what it is: too large, malformed, of no topic; retrying never helps
"""

from abc import ABC, abstractmethod
from typing import Self

from coupon.ports.url import Url


class BackendError(Exception):
    """A backend did not do what it was asked. The driver's own error is the ``__cause__``."""


class BackendUnavailable(BackendError):
    """No (clear) answer. Retrying may help; what was asked may have happened or not."""


class BackendRejected(BackendError):
    """Refused for what it is. Retrying never helps; nothing was changed. What an operator can mend while commands wait
    (a missing table, wrong credentials) is BackendUnavailable."""


class Backend(ABC):
    """A backend of any role.

    Opened lazily: neither ``from_url`` nor ``__init__`` does any I/O, so that a backend may be made before a fork
    and its connections after it. Every method may be called by many threads at once, answers or raises
    BackendUnavailable within its ``timeout_s`` (plus a little), and works again by itself when the server is back.
    """

    @classmethod
    @abstractmethod
    def from_url(cls, url: Url) -> Self:
        """The backend that the URL describes; raises ConfigurationError for an unknown or impossible option."""

    @abstractmethod
    def ping(self) -> None:
        """Return when the backend would answer; else raise BackendUnavailable. Within about a second."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all connections. Idempotent, never raises. Afterwards every method raises BackendUnavailable."""
