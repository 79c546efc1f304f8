"""Every error of ours that crosses a module: who raises it, and what it means.

| raised by  | error                     | meaning                                                                   |
| ---------- | ------------------------- | ------------------------------------------------------------------------- |
| backends   | BackendError              | a backend did not do what it was asked                                    |
|            | ├── BackendUnavailable    | no (clear) answer: retrying may help, and it may have happened            |
| web        | │    └── BackendLeftAlone | a backend that hangs was not called                                       |
|            | └── BackendRejected       | the request itself is refused: retrying never helps                       |
| backends   |      └── Unreadable       | stored rows are no coupons, until an operator repairs them                |
| runtime    | ConfigurationError        | the configuration cannot work: the process ends                           |
|            | └── NotInitialized        | ``coupon init`` has not been run here                                     |
|            | CacheAway                 | the cache does not answer: the way without a cache is taken               |
|            | StillUnavailable          | search or the cache is not asked again yet: its work stays in the outbox  |
| domain     | Refused                   | a rule forbids the command                                                |
|            | ValueError                |                                                                           |
|            | ├── InvalidCode           | the text is no coupon code                                                |
|            | ├── InvalidApiKey         | the API key cannot be made, rotated or revoked                            |
|            | └── Malformed             | the bytes are no message, entry or row of ours                            |
|            |     └── OtherFormat       | a message of another version of Coupon                                    |
| acceptance | CouponBusy                | another command on the coupon is being accepted: try again                |
|            | IdempotencyKeyReused      | the key belongs to another request                                        |
|            | TooManyCreations          | too many coupons wait to be created                                       |
|            | TooManyGuesses            | a caller named too many unknown codes                                     |
|            | UnknownAddress            | the service never gave this address of an operation                       |
|            | OutcomeExpired            | the coupon no longer remembers the operation                              |
|            | InvalidCursor             | the list never gave this cursor                                           |
| worker     | DeploymentError           | another layout is still in use: the worker stops                          |
|            | CacheFailed               | the cache did not answer the worker, or refused                           |
| bulk       | UnusableFile              | no file of rows, or none that may be written                              |

Some are defined where they are raised:

- ``Problem`` and ``InvalidField`` (``coupon/web/problems.py``) are answers of HTTP, made of one of these.
- ``NoIndex`` (``backends/search/elasticsearch_bulk.py``), ``Cancelled`` (``backends/store/dynamodb_connection.py``) and
  ``BrokenOff`` (``backends/http_connections.py``) do not leave their backend.
- ``Restarted`` (``backends/queue/leased_consumer.py``) is a BackendUnavailable, after which a consumer begins again.
- ``InvalidToken`` (``coupon/web/user_tokens.py``) becomes a ``Problem`` beside it.
- ``NotServed`` (``coupon/ports/group_commit.py``) is caught by those who wait in a group that did not begin.
- ``Deployed`` (``backends/testing/search_rebuild.py``) belongs to a suite.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coupon.domain.model import Coupon, Reason


class BackendError(Exception):
    """A backend did not do what it was asked. The driver's own error is the ``__cause__``."""


class BackendUnavailable(BackendError):
    """No (clear) answer. Retrying may help; what was asked may have happened or not."""


class BackendRejected(BackendError):
    """The request itself is refused: retrying never helps, and nothing was changed. What an operator can repair (a
    missing table, wrong credentials) is BackendUnavailable instead."""


class BackendLeftAlone(BackendUnavailable):
    """The backend was not called, because it hangs."""


class Unreadable(BackendRejected):
    """The rows of some codes cannot be decoded as coupons, until an operator repairs them. ``reasons`` has why, by
    code. ``found`` has the coupons of the other codes of the call."""

    def __init__(self, reasons: Mapping[str, str], found: "Mapping[str, Coupon]") -> None:
        super().__init__("; ".join(fault(code, why) for code, why in reasons.items()))
        self.reasons, self.found = dict(reasons), dict(found)


def fault(code: str, reason: str) -> str:
    """The error text for a stored coupon that cannot be read."""
    return f"what is stored of {code} is no coupon: {reason}"


class ConfigurationError(Exception):
    """The configuration cannot work: the message names the setting, the value and what is accepted."""


class NotInitialized(ConfigurationError):
    """What ``coupon init`` makes is missing: it was not run, or not in this directory."""


class CacheAway(Exception):
    """The cache does not answer, or has no room: nothing can be reserved."""


class StillUnavailable(Exception):
    """Search or the cache failed a moment ago, and is not asked again yet. Its work stays in the outbox, and is
    delivered again later."""


class Refused(Exception):
    """A rule of the domain forbids the command; nothing was changed. ``coupon`` is the one that it was decided on, for
    the response; None when the response does not show it."""

    def __init__(self, reason: "Reason", coupon: "Coupon | None" = None) -> None:
        super().__init__(reason.value)
        self.reason, self.coupon = reason, coupon


class InvalidCode(ValueError):
    """Not a coupon code; the message says what is wrong with it."""


class InvalidApiKey(ValueError):
    """An API key of that name cannot be made, rotated or revoked; the message says why."""


class Malformed(ValueError):
    """Not a message of ours, or not of this version; the message says what is wrong."""


class OtherFormat(Malformed):
    """A message of a known kind that lacks a field: an earlier or later version of Coupon wrote it."""


class CouponBusy(Exception):
    """Another command on this coupon is being accepted just now, or the workers have to catch up: try again."""


class IdempotencyKeyReused(Exception):
    """The key was used before, for another request."""


class TooManyCreations(Exception):
    """The message says how much is outstanding, and whose."""


class TooManyGuesses(Exception):
    """The caller named so many unknown codes that it is refused for ``left_s`` seconds."""

    def __init__(self, left_s: int) -> None:
        super().__init__(f"refused for {left_s} s")
        self.left_s = left_s


class UnknownAddress(Exception):
    """Not the address of an operation of this service: its signature is wrong."""


class OutcomeExpired(Exception):
    """The operation was settled before the coupon's history begins: its outcome is no longer known."""


class InvalidCursor(Exception):
    """Not a cursor that this list gave."""


class DeploymentError(Exception):
    """Another layout's topics still hold commands, or its workers still run: both at once would do harm. The worker
    stops."""


class CacheFailed(Exception):
    """The cache did not answer the worker, or refused."""


class UnusableFile(Exception):
    """Not a file of rows at all, or no name under which a file of coupons may be written."""
