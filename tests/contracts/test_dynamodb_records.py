"""What DynamoDB's store does at its edge with groups and records: round trips, conflicts, throttling, lost replies."""

import pytest

from backends.testing.coupons import changed, some_coupons
from backends.testing.store import opened
from backends.testing.store_records import alone, by_key, record, records
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.store import Store
from tests.contracts.dynamodb_edge import Edge, cancel, leave_unprocessed, lose_the_reply, pass_on, refuse
from tests.contracts.test_dynamodb_store import PASSING_ERRORS, PASSING_REASONS
from tests.services import Services

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("nothing_is_logged")]


def test_a_group_is_one_round_trip_and_so_is_a_read(store: Store, edge: Edge) -> None:
    coupons = some_coupons(40)
    assert store.save_groups([[*coupons, *records(60)]]) == set()
    assert len(store.get_records("campaign", by_key(records(100)))) == 60
    assert edge.requests == ["TransactWriteItems", "BatchGetItem"]


def test_a_refused_group_is_one_round_trip(store: Store, edge: Edge) -> None:
    assert store.save_groups([[record(), record("other", revision=2)]]) == {0}
    assert edge.requests == ["TransactWriteItems"]


@pytest.mark.parametrize("error", [*PASSING_ERRORS, *PASSING_REASONS])
def test_what_passes_is_tried_again(store: Store, edge: Edge, error: str) -> None:
    edge.acts += [(PASSING_ERRORS | PASSING_REASONS)[error]] * 2
    [coupon] = some_coupons(1)
    assert store.save_groups([[coupon, record()]]) == set()
    assert store.get_records("campaign", ["spring"]) == {"spring": record()}


def test_a_lost_reply_is_not_a_conflict(store: Store, edge: Edge) -> None:
    edge.acts += [lose_the_reply]
    assert store.save_groups([[record(), record("other")]]) == set()


def test_a_condition_that_failed_beside_what_passes_is_a_conflict(store: Store, edge: Edge) -> None:
    edge.acts += [cancel("TransactionConflict", "ConditionalCheckFailed")]
    assert store.save_groups([[record(), record("other")]]) == {0}
    assert store.get_records("campaign", ["spring", "other"]) == {}


def test_what_lies_in_the_group_is_rejected(store: Store, edge: Edge) -> None:
    edge.acts += [cancel("None", "ValidationError")]
    with pytest.raises(BackendRejected):
        store.save_groups([[record(), record("other")]])


def test_a_group_gives_up_in_time(edge: Edge, store: Store, dynamodb_table: str) -> None:
    hasty = opened(f"dynamodb://{edge.address}?table={dynamodb_table}&timeout_s=0.5")
    edge.always = refuse("ThrottlingException")
    unavailable_within(2, lambda: hasty.save_groups([[record()]]))
    hasty.close()
    edge.always = pass_on


def test_keys_left_unprocessed_are_read_after(store: Store, edge: Edge) -> None:
    store.save_groups(alone(records(20)))
    edge.acts += [leave_unprocessed(7), leave_unprocessed(1)]
    assert store.get_records("campaign", by_key(records(20))) == by_key(records(20))


def test_coupons_go_on_where_nobody_made_the_table_of_records(
    services: Services, edge: Edge, store: Store, dynamodb_table: str
) -> None:
    """As after an upgrade without ``coupon init``."""
    edge.always = lambda request, forward: (
        refuse("ResourceNotFoundException")(request, forward) if "-records" in str(request) else forward(request)
    )
    [coupon] = some_coupons(1)
    assert store.save_many([coupon]) == set()
    assert store.save_many([changed(coupon)]) == set()
    store.ping()
    for ask in (
        lambda: store.get_records("campaign", ["spring"]),
        lambda: store.scan_records("campaign", 10),
        lambda: store.save_groups([[record()]]),
    ):
        with pytest.raises(BackendUnavailable, match="run: coupon init"):
            ask()
