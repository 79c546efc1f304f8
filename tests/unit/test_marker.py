"""What the marker of an imported chunk says: whether its operation created the complete chunk."""

import pytest

from backends.store.memory import MemoryStore
from coupon.applying.apply import apply_creations
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable
from tests.coupons import a_coupon, a_creation
from tests.worker.faults import Faulty, away

CODE_DERIVER = CodeDeriver("a secret of the tests")
A, B, C, D = (letter * 19 for letter in "ABCD")


@pytest.fixture
def store():
    store = MemoryStore()
    store.create()
    return store


def chunk(*codes, operation="import"):
    return a_creation(operation=operation, amount=9, size=len(codes), codes=codes)


def complete(store):
    """The markers that tell of a complete chunk."""
    return {coupon.code for coupon in store.scan(10).coupons if coupon.chunk_complete}


def sizes(store):
    return {coupon.code: coupon.creation_size for coupon in store.scan(10).coupons}


def test_a_new_chunk_is_complete(store):
    apply_creations(store, [chunk(A, B, C), chunk(D)], CODE_DERIVER)
    assert complete(store) == {C, D}
    assert sizes(store) == dict.fromkeys([A, B, C, D], 9)


@pytest.mark.parametrize("there", [A, B])
def test_a_chunk_of_which_some_were_there_is_not(store, there):
    store.save_many([a_coupon(there, creation_size=7)])
    apply_creations(store, [chunk(A, B, C), chunk(D)], CODE_DERIVER)
    assert complete(store) == {D}
    assert sizes(store) == dict.fromkeys([A, B, C, D], 9) | {there: 7}


def test_a_chunk_that_was_applied_in_part_and_is_delivered_again_is_complete(store):
    faulty = Faulty(store)
    faulty.before["save_many"] = [None, away()]
    with pytest.raises(BackendUnavailable):
        apply_creations(faulty, [chunk(A, B, C)], CODE_DERIVER)
    assert (sizes(store), complete(store)) == ({A: 9, B: 9}, set())
    apply_creations(store, [chunk(A, B, C)], CODE_DERIVER)
    assert complete(store) == {C}


def test_a_chunk_that_is_delivered_twice_at_once_is_complete(store):
    apply_creations(store, [chunk(A, B), chunk(A, B)], CODE_DERIVER)
    assert complete(store) == {B}


@pytest.mark.parametrize("shared", [A, B])
def test_of_two_imports_with_a_common_code_one_has_it(store, shared):
    """It may be the other one's marker, too."""
    apply_creations(store, [chunk(A, B), chunk(shared, C, operation="another")], CODE_DERIVER)
    assert sizes(store)[C] == 9
    assert C not in complete(store)


def test_a_marker_that_another_made_a_moment_before_tells_nothing(store):
    """In the same part: as one of its own coupons, which is not its marker."""
    creation = a_creation(amount=2, size=2, secret_fingerprint=CODE_DERIVER.fingerprint)
    first, last = CODE_DERIVER.codes(creation.operation, 0, 2)
    apply_creations(store, [creation, chunk(B, A, operation="another"), chunk(C, first), chunk(D, B)], CODE_DERIVER)
    assert sizes(store) == {first: 2, last: 2, B: 9, A: 9, C: 9, D: 9}
    assert complete(store) == set()


def test_the_marker_of_a_creation_tells_nothing(store):
    codes = list(CODE_DERIVER.codes("birth", 0, 3))
    apply_creations(store, [a_creation(amount=3, size=3, secret_fingerprint=CODE_DERIVER.fingerprint)], CODE_DERIVER)
    assert (sizes(store), complete(store)) == (dict.fromkeys(codes, 3), set())


def test_of_two_chunks_with_one_marker_it_tells_of_the_one_that_has_it(store):
    store.save_many([a_coupon(A)])
    apply_creations(store, [chunk(A, B), chunk(C, B, operation="another")], CODE_DERIVER)
    assert store.get_many([B])[B].created_by == "import"
    assert B not in complete(store)
