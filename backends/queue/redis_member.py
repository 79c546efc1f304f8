"""One member of a group of a Redis queue."""

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from backends.queue import redis_scripts as scripts
from backends.queue.leased_consumer import Member, Restarted, Share
from backends.queue.membership import Heartbeats, share_out
from backends.queue.partitions import POLL_BYTES_MAX, PRUNE_MAX
from backends.queue.queue_time import QueueTime
from backends.queue.redis_topics import Topics, deliveries, positions_of
from backends.redis_connections import Command, RedisConnection, RedisConnections
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.queue import Delivery, Position

SHARE_TRIES = 3
"""How often a member tries to share before it goes on with what it has: another one changed the group each time."""


class _Group(NamedTuple):
    """A group's hash: the beat of each member in each of its topics, and the owner of each partition."""

    version: bytes
    beats: dict[tuple[str, str], int]
    owners: dict[Position, str]


class RedisMember(Member):
    def __init__(
        self,
        connections: RedisConnections,
        topics: Topics,
        group: str,
        name: str,
        subscribed: Sequence[str],
        lease_s: float,
        retention_s: float,
        timer: Callable[[], float],
    ) -> None:
        self._connections, self._topics, self._group, self._name = connections, topics, group, name
        self._subscribed, self._retention_s = subscribed, retention_s
        self._key = topics.group(group)
        self._beats, self._others, self._time = itertools.count(), Heartbeats(lease_s), QueueTime(timer)
        self._begins: Sequence[tuple[Position, int]] = ()
        self._identities: dict[str, bytes] = {}
        """Of the topics, when the member last shared: at an offset of another topic it does not go on."""
        self._shared: frozenset[Position] = frozenset()
        """The partitions that the last share gave, whose offsets are known here."""
        self._run = ""

    def share(self, now: float, assigned: Collection[Position]) -> Share:
        try:
            self._identities = self._topics.identities(self._subscribed)
        except BackendRejected as error:  # an operator makes them: until then a worker waits
            raise BackendUnavailable(str(error)) from error
        with self._connections.connection() as connection:
            if assigned and connection.run != self._run:
                raise self._restarted()
            self._run = connection.run
            shared, self._shared = self._shared, frozenset()  # until all steps are done: a reply may be lost
            before, after, complete = self._share(connection, now)
            kept = before & after & shared & set(assigned)
            new = sorted(after - kept)
            keys = [key for place in new for key in (self._topics.offsets(place), self._topics.stream(place))]
            join = self._topics.script(scripts.JOIN, self._identities, keys, self._group)
            stored, offsets = self._topics.evaluate(connection, [("GET", self._topics.time), join])
            advance = ("EVAL", scripts.ADVANCE, 1, self._topics.time, self._time.after(float(stored or 0)))
            connection.must([advance])
        self._shared = frozenset(after)
        return Share(kept, dict(zip(new, offsets, strict=True)), complete)

    def take(self, begins: Sequence[tuple[Position, int]], max_messages: int) -> list[Delivery]:
        self._begins = begins
        streams = [self._topics.stream(position) for position, _ in begins]
        arguments = [max_messages, POLL_BYTES_MAX, *(begin for _, begin in begins)]
        with self._here() as connection:
            take = self._topics.script(scripts.TAKE, self._identities, streams, *arguments)
            (found,) = self._topics.evaluate(connection, [take])
        by_position = zip(begins, found, strict=True)
        return [delivery for (position, _), entries in by_position for delivery in deliveries(position, entries)]

    def wait(self, until: float) -> None:
        if (left_s := until - time.monotonic()) <= 0:
            return
        if not self._begins:
            time.sleep(left_s)
            return
        streams = [self._topics.stream(position) for position, _ in self._begins]
        ids = [f"0-{begin}" for _, begin in self._begins]
        read = ("XREAD", "COUNT", 1, "BLOCK", max(1, int(left_s * 1000)), "STREAMS", *streams, *ids)
        with self._here() as connection:
            connection.until += left_s
            connection.must([read])

    def commit(self, positions: Mapping[Position, int]) -> None:
        if not positions:
            return
        keys = [self._key, self._topics.time]
        arguments = [self._group, self._name, self._retention_s, PRUNE_MAX]
        for position, offset in positions.items():
            keys += [self._topics.offsets(position), self._topics.stream(position)]
            arguments += [_owner(position), offset]
        with self._here() as connection:
            commit = self._topics.script(scripts.COMMIT, self._identities, keys, *arguments)
            (refused,) = self._topics.evaluate(connection, [commit])
        if refused:
            raise BackendUnavailable(f"{refused.decode()} is another member's by now")

    def renew(self) -> None:
        """Stay in the group. It does nothing when the member is expelled already."""
        self._connections.ask([("EVAL", scripts.RENEW, 1, self._key, next(self._beats), *self._fields())])

    def leave(self) -> None:
        with self._connections.connection(min(1.0, self._connections.timeout_s)) as connection:
            connection.must([("EVAL", scripts.LEAVE, 1, self._key, self._name, *self._fields())])

    @contextmanager
    def _here(self) -> Iterator[RedisConnection]:
        """A connection to the run of the server in which this member joined."""
        with self._connections.connection() as connection:
            if connection.run != self._run:
                raise self._restarted()
            yield connection

    def _restarted(self) -> Restarted:
        return Restarted(f"Redis at {self._connections.address} was restarted")

    def _share(self, connection: RedisConnection, now: float) -> tuple[set[Position], set[Position], bool]:
        """The partitions that this member owned and owns, and whether its share is complete."""
        for _ in range(SHARE_TRIES):
            (pairs,) = connection.must([("HGETALL", self._key)])
            group, old = _parsed(pairs), _parsed(pairs)
            complete = self._change(group, now)
            (shared,) = connection.must([self._sharing(old, group)])
            if shared:
                return self._owned(old), self._owned(group), complete
        return self._owned(old), self._owned(old), False

    def _sharing(self, old: _Group, new: _Group) -> Command:
        before, after = _fields_of(old), _fields_of(new)
        changes = old.owners != new.owners or old.beats.keys() != new.beats.keys()
        gone = sorted(before.keys() - after.keys())
        fields = [each for field, value in after.items() if before.get(field) != value for each in (field, value)]
        return ("EVAL", scripts.SHARE, 1, self._key, old.version, int(changes), len(gone), *gone, *fields)

    def _change(self, group: _Group, now: float) -> bool:
        """Expel the dead, and share each topic out. True when this member has all of its share."""
        beats: dict[str, int] = {}
        for (member, _), beat in group.beats.items():
            if member != self._name:
                beats[member] = max(beat, beats.get(member, 0))
        living = beats.keys() - self._others.dead(beats, now) | {self._name}
        for key in [key for key in group.beats if key[0] not in living]:
            del group.beats[key]
        for position in [position for position, owner in group.owners.items() if owner not in living]:
            del group.owners[position]
        beat = next(self._beats)
        group.beats.update({(self._name, topic): beat for topic in self._subscribed})
        complete = [self._share_topic(group, *topic) for topic in self._identities.items()]
        return all(complete)

    def _share_topic(self, group: _Group, topic: str, identity: bytes) -> bool:
        owners = {place.partition: group.owners.get(place) for place in positions_of(topic, identity)}
        members = [member for member, theirs in group.beats if theirs == topic]
        changes, complete = share_out(topic, owners, self._name, members)
        for partition, owner in changes.items():
            if owner is None:
                del group.owners[Position(topic, partition)]
            else:
                group.owners[Position(topic, partition)] = owner
        return complete

    def _owned(self, group: _Group) -> set[Position]:
        return {
            place for place, owner in group.owners.items() if owner == self._name and place.topic in self._subscribed
        }

    def _fields(self) -> list[str]:
        return [_beat(self._name, topic) for topic in self._subscribed]


def _beat(member: str, topic: str) -> str:
    return f"beat/{member}/{topic}"


def _owner(position: Position) -> str:
    return f"owner/{position.partition}/{position.topic}"


def _parsed(pairs: Sequence[bytes]) -> _Group:
    state = {field.decode(): value for field, value in zip(pairs[::2], pairs[1::2], strict=True)}
    group = _Group(state.pop("version", b"0"), {}, {})
    for field, value in state.items():
        kind, name, topic = field.split("/", 2)
        if kind == "beat":
            group.beats[name, topic] = int(value)
        else:
            group.owners[Position(topic, int(name))] = value.decode()
    return group


def _fields_of(group: _Group) -> dict[str, str | int]:
    beats: dict[str, str | int] = {_beat(member, topic): beat for (member, topic), beat in group.beats.items()}
    return beats | {_owner(position): owner for position, owner in group.owners.items()}
