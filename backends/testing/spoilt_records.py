"""What a store says of a record that somebody else has written, and that cannot be decoded as one."""

from collections.abc import Callable

import pytest

from backends.testing.store_records import alone, by_key, record, records
from coupon.domain.errors import BackendRejected
from coupon.ports.store import Store


class SpoiltRecords:
    """To be mixed in after ``StoreRecordsContract``, for stores in which a row can be no record."""

    @pytest.fixture
    def spoil_record(self) -> Callable[[str, str], None]:
        raise NotImplementedError("what makes a row that is no record of the one with that kind and key")

    def test_what_is_no_record_is_rejected_by_its_key_and_hides_no_other(
        self, store: Store, spoil_record: Callable[[str, str], None]
    ) -> None:
        spoilt, *others = records(3)
        store.save_groups(alone([spoilt, *others]))
        spoil_record(spoilt.kind, spoilt.key)
        with pytest.raises(BackendRejected, match=spoilt.key):
            store.get_records("campaign", by_key([spoilt, *others]))
        assert store.get_records("campaign", by_key(others)) == by_key(others)

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_a_scan_tells_what_is_no_record_and_goes_on(
        self, store: Store, spoil_record: Callable[[str, str], None], limit: int
    ) -> None:
        there = records(7)
        store.save_groups(alone(there))
        for spoilt in there[::3]:
            spoil_record(spoilt.kind, spoilt.key)
        pages = [store.scan_records("campaign", limit)]
        while (cursor := pages[-1].next) is not None:
            pages.append(store.scan_records("campaign", limit, cursor))
        assert sorted(key for page in pages for key in page.unreadable) == [each.key for each in there[::3]]
        found = [each for page in pages for each in page.records]
        assert sorted(found) == [each for each in there if each not in there[::3]]

    def test_what_is_no_record_is_not_overwritten_by_a_creation(
        self, store: Store, spoil_record: Callable[[str, str], None]
    ) -> None:
        store.save_groups([[record()]])
        spoil_record("campaign", "spring")
        assert store.save_groups([[record()], [record("other")]]) == {0}
        with pytest.raises(BackendRejected):
            store.get_records("campaign", ["spring"])
