"""The rules that all queues follow: where keys go, who gets which partitions, what may be committed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.queue.partitions import AssignedPartitions, fair_share, partition_of
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Position

HERE, THERE = Position("t", 0), Position("t", 1)


@pytest.mark.parametrize(
    ("key", "partition"), [("", 0), ("A1B2C3D4E5F6G7H8I9J", 1), ("쿠폰", 1), ("key-1", 2), ("key-2", 0)]
)
def test_a_key_goes_where_it_went_in_older_versions(key, partition):
    assert partition_of(key, 8) == partition


@given(st.integers(0, 64), st.sets(st.text(min_size=1), min_size=1, max_size=12))
def test_quotas_are_fair_and_add_up_to_all_partitions(partitions, members):
    quotas = [fair_share("t", partitions, member, members) for member in members]
    assert sum(quotas) == partitions
    assert max(quotas) - min(quotas) <= 1


def test_topics_of_one_partition_do_not_all_go_to_the_same_member():
    members = {f"member-{n}" for n in range(4)}
    owners = {member for topic in "abcdefghijkl" for member in members if fair_share(topic, 1, member, members)}
    assert len(owners) > 1


@pytest.fixture
def assigned() -> AssignedPartitions:
    """One partition, taken at 10, delivered up to 20, and committed up to 15."""
    assigned = AssignedPartitions()
    assigned.assign(HERE, 10)
    assigned.deliver(HERE, 20)
    assigned.commit({HERE: 15})
    return assigned


@pytest.mark.parametrize("offset", [15, 16, 20])
def test_what_was_delivered_may_be_committed(assigned, offset):
    assigned.check({HERE: offset})


@pytest.mark.parametrize("positions", [{HERE: 14}, {HERE: 21}, {THERE: 0}, {HERE: 20, THERE: 0}])
def test_nothing_else_may_be_committed(assigned, positions):
    with pytest.raises(BackendUnavailable):
        assigned.check(positions)


def test_a_rewind_goes_back_to_what_was_committed(assigned):
    assert assigned.rewind() == {HERE: 15}
    assert assigned.next(HERE) == 15
    assert assigned.rewind() == {}


def test_what_was_delivered_before_a_rewind_may_still_be_committed(assigned):
    assigned.rewind()
    assigned.check({HERE: 20})
    assigned.commit({HERE: 20})
    assert assigned.next(HERE) == 20


def test_what_was_delivered_before_a_partition_was_lost_may_not(assigned):
    assigned.retain([])
    assigned.assign(HERE, 15)
    with pytest.raises(BackendUnavailable):
        assigned.check({HERE: 20})
