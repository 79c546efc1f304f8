"""Duplicates are found exactly, in flat memory, in however many buckets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupon.bulk.duplicates import BUCKET_BYTES, BUCKETS_MAX, Duplicate, DuplicateFinder


@given(st.lists(st.sampled_from("ABCDEFGHIJ")), st.sampled_from([0, 3 * BUCKET_BYTES, 10 * BUCKETS_MAX * BUCKET_BYTES]))
def test_all_but_the_first_occurrence_are_found_in_the_order_of_the_lines(codes, file_bytes):
    firsts: dict[str, int] = {}
    expected = [
        Duplicate(line, firsts[code]) for line, code in enumerate(codes, 9) if firsts.setdefault(code, line) != line
    ]
    with DuplicateFinder(file_bytes) as finder:
        for line, code in enumerate(codes, 9):
            finder.add(code, line)
        assert list(finder.duplicates()) == expected


@pytest.mark.parametrize("distinct", [1, 50_000])
def test_a_hundred_thousand_rows_with_a_code_twice_or_everywhere(distinct):
    with DuplicateFinder(2 * BUCKET_BYTES) as finder:
        for line in range(1, 100_001):
            finder.add(f"CODE{line % distinct}", line)
        found = list(finder.duplicates())
    assert len(found) == 100_000 - distinct
    assert found == sorted(found)
    assert found[-1] == Duplicate(100_000, distinct)
