"""How durable Redis makes what it acknowledges, and what its configuration loses."""

import time
from typing import Any, NamedTuple

import structlog
from redis.exceptions import ResponseError

from backends.redis_connections import RedisConnection
from coupon.domain.errors import BackendUnavailable

log = structlog.get_logger("coupon.queue")
WAITS_SINCE = (7, 2)
"""The version that has WAITAOF."""
LOOK_S = 60.0
"""How long a look at the configuration is relied on: an operator may change it while the server runs."""
REPLY_S = 0.2
"""For the reply, when the disk took all of the time."""
SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory-policy")
ALL_IS_LOST = "neither appendonly nor save is set: a restart loses everything"
SNAPSHOTS = "appendonly is off: a restart loses what came after the last snapshot"
NOT_ALWAYS = "appendfsync is {0}, and nothing waits for it: a loss of power loses {1}"
EVICTS = "maxmemory-policy is {0}: a full memory loses messages"
UNKNOWN = "CONFIG GET is refused: what a restart loses is not known, and no publish waits for the disk"


class _Seen(NamedTuple):
    """What was seen of one run of the server, and until when it is relied on."""

    run: str
    until: float
    waits: bool
    lost: list[str]


class Durability:
    """Thread-safe. What the configuration loses is logged once, and once more when it changes."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._seen = _Seen("", 0.0, waits=False, lost=[])

    def wait(self, connection: RedisConnection) -> None:
        """Return when the disk has what was published on this connection, if the server can tell."""
        if not self.look(connection):
            return
        left_ms = max(1, int(connection.left_s * 1000))
        connection.until += REPLY_S
        (reply,) = connection.ask([("WAITAOF", 1, 0, left_ms)])
        if isinstance(reply, ResponseError) or reply[0] < 1:
            self._seen = self._seen._replace(until=0.0)  # it may have been configured in another way
            raise BackendUnavailable(f"Redis at {self._address} did not write to its disk in time: {reply}")

    def look(self, connection: RedisConnection) -> bool:
        """Whether a publish has to wait."""
        seen = self._seen
        if seen.run != connection.run or time.monotonic() > seen.until:
            waits, lost = _durability(connection)
            self._seen = _Seen(connection.run, time.monotonic() + LOOK_S, waits, lost)
            for sentence in lost if (seen.run, seen.lost) != (connection.run, lost) else []:
                log.warning("acknowledged commands may be lost", server=self._address, reason=sentence)
        return self._seen.waits


def _durability(connection: RedisConnection) -> tuple[bool, list[str]]:
    """Whether a publish has to wait, and what may be lost all the same."""
    answers = connection.ask([("CONFIG", "GET", name) for name in SETTINGS])
    if any(isinstance(answer, ResponseError) for answer in answers):  # as an administrator may forbid
        return False, [UNKNOWN]
    appendonly, fsync, save, policy = (_value(answer) for answer in answers)
    can_wait = tuple(map(int, connection.info["redis_version"].split(".")[:2])) >= WAITS_SINCE
    waits = can_wait and appendonly == "yes" and fsync == "everysec"
    lost = []
    if appendonly != "yes":
        lost.append(SNAPSHOTS if save else ALL_IS_LOST)
    elif fsync != "always" and not waits:
        lost.append(NOT_ALWAYS.format(fsync, "about two seconds" if fsync == "everysec" else "half a minute or more"))
    if policy.startswith("allkeys"):
        lost.append(EVICTS.format(policy))
    return waits, lost


def _value(answer: Any) -> str:
    return answer[1].decode() if len(answer) == 2 else ""
