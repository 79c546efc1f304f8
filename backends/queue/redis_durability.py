"""How durable Redis makes what it acknowledges, and what its configuration loses."""

from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from backends.redis_connections import Command, RedisConnection, fields_of

WAITS_SINCE = (7, 2)
"""The version that has WAITAOF."""
SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory-policy")
ALL_IS_LOST = "neither appendonly nor save is set: a restart loses everything"
SNAPSHOTS = "appendonly is off: a restart loses what came after the last snapshot"
NOT_ALWAYS = "appendfsync is {0}, and this version has no WAITAOF: a loss of power loses {1}"
EVICTS = "maxmemory-policy is {0}: a full memory loses messages"
UNKNOWN = "CONFIG GET is refused: what a restart loses is not known"


class Durability(NamedTuple):
    """Of one run of a server. ``lost`` are sentences: what its configuration may lose of what was acknowledged."""

    waits: bool
    """A publish asks when its messages are on the disk."""
    lost: list[str]

    def then(self, timeout_s: float) -> list[Command]:
        """The commands after a publish."""
        return [("WAITAOF", 1, 0, int(timeout_s * 1000))] if self.waits else []


def durability(connection: RedisConnection, timeout_s: float) -> Durability:
    can_wait = tuple(map(int, connection.info["redis_version"].split(".")[:2])) >= WAITS_SINCE
    commands = [("INFO", "persistence"), *(("CONFIG", "GET", name) for name in SETTINGS)]
    persistence, *answers = connection.ask(commands, timeout_s)
    if any(isinstance(answer, ResponseError) for answer in answers):  # as an administrator may forbid
        return Durability(can_wait and fields_of(persistence).get("aof_enabled") == "1", [UNKNOWN])
    appendonly, fsync, save, policy = (_value(answer) for answer in answers)
    waits = can_wait and appendonly == "yes" and fsync == "everysec"
    lost = []
    if appendonly != "yes":
        lost.append(SNAPSHOTS if save else ALL_IS_LOST)
    elif fsync != "always" and not waits:
        lost.append(NOT_ALWAYS.format(fsync, "about two seconds" if fsync == "everysec" else "half a minute or more"))
    if policy.startswith("allkeys"):
        lost.append(EVICTS.format(policy))
    return Durability(waits, lost)


def _value(answer: Any) -> str:
    return answer[1].decode() if len(answer) == 2 else ""
