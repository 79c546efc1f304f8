"""Who gets which partitions of a Kafka group."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.subscription_state import SubscriptionState
from kafka.coordinator.base import Generation
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from backends.queue.kafka_assignor import FairAssignor
from backends.queue.kafka_consumer import ASSIGNORS
from backends.queue.kafka_fixes import JoinResultFix
from backends.queue.partitions import fair_share

TOPICS = ["commands", "reindex"]
names = st.sampled_from([f"member-{number}" for number in range(5)])
places = st.dictionaries(st.tuples(st.sampled_from(TOPICS), st.integers(0, 7)), names)


def assigned(partitions, members, owners):
    """Each member's partitions, after a round in which each said what it has."""
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(partitions)) or None)
    said = []
    for name in members:
        assignor = FairAssignor()
        assignor.member_assignment = [
            SimpleNamespace(topic=topic, partition=number) for topic, number in owned_by(name, owners)
        ]
        said.append(SimpleNamespace(member_id=name, metadata=assignor.metadata(set(TOPICS))))
    return {name: set(share.partitions()) for name, share in FairAssignor().assign(cluster, said).items()}


@given(st.integers(0, 8), st.sets(names, min_size=1), places)
def test_nobody_gets_what_another_one_has_yet_and_after_two_rounds_each_has_its_quota(partitions, members, owners):
    owners = {place: owner for place, owner in owners.items() if place[1] < partitions and owner in members}
    first = assigned(partitions, members, owners)
    assert all(owners.get(place, name) == name for name, places in first.items() for place in places)
    second = assigned(partitions, members, {place: name for name, places in first.items() for place in places})
    for topic in TOPICS:
        for name in members:
            due, had = fair_share(topic, partitions, name, members), owned_by(name, owners)
            assert len(of(topic, second[name])) == due
            assert len(of(topic, first[name] & had)) == min(due, len(of(topic, had)))


def owned_by(name, owners):
    return {place for place, owner in owners.items() if owner == name}


def of(topic, places):
    return [place for place in places if place[0] == topic]


def test_what_is_as_it_should_be_stays_so():
    owners = {(topic, number): f"member-{number % 2}" for topic in TOPICS for number in range(4)}
    shares = assigned(4, {"member-0", "member-1"}, owners)
    assert {place: name for name, places in shares.items() for place in places} == owners


class Member(JoinResultFix):
    """A coordinator that talks to nobody, and whose last assignment said more than it has."""

    def __init__(self, held, member_id="a member"):
        self._generation = Generation(7, member_id, FairAssignor.name)
        self._subscription = SubscriptionState()
        self._subscription.subscribe(TOPICS)
        self._subscription.assign_from_subscribed([TopicPartition("commands", number) for number in held])
        self._assignors = {kind.name: kind() for kind in ASSIGNORS}
        self._assignors[FairAssignor.name].on_assignment(ConsumerProtocolAssignment(1, [("commands", [1, 2])], b""), 7)


@pytest.mark.parametrize("held", [[], [2], [2, 3]])
def test_a_member_claims_what_it_has_whatever_it_was_assigned_before_and_by_which_assignor(held):
    """Or a partition would be kept for one that lost it, or be given away while it has one."""
    for name, said in Member(held).group_protocols():
        claimed = [(place.topic, place.partitions) for place in said.owned_partitions]
        assert claimed == ([("commands", held)] if held else []), name


def test_who_was_put_out_of_the_group_while_it_joined_claims_nothing():
    for name, said in Member([2, 3], member_id="").group_protocols():
        assert said.owned_partitions == [], name
