"""Which dead letters are open, as the store remembers."""

from coupon.applying.closed_letters import KIND, close, closings
from coupon.applying.dead_letters import DeadLetter
from coupon.ports.store import Record, Store
from coupon.runtime.wiring import open_backend

LETTERS = [DeadLetter("commands", 1, offset, "key", b"{}", "not ours", at=1_000) for offset in range(3)]


def how(store, letters=LETTERS):
    return [closing and closing.how for closing in closings(store, letters)]


def test_a_letter_is_closed_by_its_id_and_the_last_word_counts():
    store = open_backend(Store, "memory://")
    assert how(store) == [None, None, None]
    close(store, LETTERS[:2], "discarded", 2_000)
    close(store, [LETTERS[1], LETTERS[1]], "replayed", 3_000)
    assert how(store) == ["discarded", "replayed", None]
    assert [closing and closing.at for closing in closings(store, LETTERS)] == [2_000, 3_000, None]
    close(store, [], "discarded", 4_000)


def test_a_later_letter_with_the_same_id_is_open_again():
    store = open_backend(Store, "memory://")
    close(store, LETTERS[:1], "replayed", 2_000)
    later = LETTERS[0]._replace(at=1_001)
    assert how(store, [later, LETTERS[0], LETTERS[0]._replace(at=999)]) == [None, "replayed", "replayed"]
    close(store, [later], "discarded", 2_000)
    assert how(store, [later]) == ["discarded"]


def test_a_letter_whose_record_others_wrote_is_shown_and_can_be_closed():
    store = open_backend(Store, "memory://")
    bodies = ["", "[]", '{"how":"burnt","at":1,"letter_at":1}', '{"how":"replayed","at":-1,"letter_at":1000}']
    for body in bodies:
        letter = LETTERS[0]._replace(offset=100 + len(body))
        store.save_groups([[Record(KIND, letter.id, 1, body)]])
        assert how(store, [letter]) == [None]
        close(store, [letter], "discarded", 2_000)
        assert how(store, [letter]) == ["discarded"]
