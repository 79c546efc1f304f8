"""What is in the collections, beside what a search answers."""

from contextlib import closing

import pytest
from pymongo.errors import OperationFailure

from backends.search import mongodb_generations
from backends.search.mongodb import MongoSearch
from backends.search.mongodb_rows import INDEXES, Rows, row_id
from backends.testing.coupons import some_coupons
from backends.testing.search import held, holds, opened
from coupon.domain.errors import BackendRejected, BackendUnavailable, ConfigurationError
from coupon.ports.search import Query
from tests.contracts.test_search import held_codes

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rebuilds_end_soon")]


def collection(database):
    [name] = [name for name in database.list_collection_names() if not name.endswith(".generations")]
    return database[name]


def test_each_coupon_has_one_row_and_the_indexes_are_there(database, search):
    coupons = some_coupons(5)
    search.index_many(coupons)
    search.index_many(held(coupons, "ann"))
    search.create()
    rows = list(collection(database).find())
    assert sorted(row["_id"] for row in rows) == sorted(row_id(coupon.code, 2) for coupon in coupons)
    expected = {"_id_"} | {index.document["name"] for index in INDEXES}
    assert collection(database).index_information().keys() == expected


def test_an_older_document_is_never_there_not_even_for_a_moment(search, database, monkeypatch):
    coupons = held(some_coupons(3), "ann", version=5)
    search.index_many(coupons)
    inserted = []
    monkeypatch.setattr(Rows, "insert", lambda _, documents: inserted.extend(documents))
    search.index_many(held(coupons, "bob", version=4))
    assert inserted == []


def test_the_row_that_a_killed_writer_left_goes_with_the_next_one(search, database):
    [coupon] = held(some_coupons(1), "ann", version=2)
    search.index_many([coupon])
    [row] = collection(database).find()
    collection(database).insert_one(row | {"_id": row_id(coupon.code, 3), "version": 3, "userId": "bob"})
    assert [found["version"] for found in search.find(Query(), 10)] == [3]
    assert len(search.find(Query(), 1)) == 1
    search.index_many([coupon])
    assert [row["version"] for row in collection(database).find()] == [3]


def test_of_two_writers_at_once_the_newest_row_stays_alone(search, database, monkeypatch):
    [coupon] = some_coupons(1)
    insert = Rows.insert

    def after_another(rows, documents):
        monkeypatch.setattr(Rows, "insert", insert)
        search.index_many(held([coupon], "bob", version=3))
        rows.insert(documents)

    monkeypatch.setattr(Rows, "insert", after_another)
    search.index_many(held([coupon], "ann", version=2))
    assert [row["version"] for row in collection(database).find()] == [3]


def test_a_page_is_full_where_others_write_it_at_this_moment(search, database):
    """Several rows of a coupon count once."""
    coupons = held(some_coupons(6), "ann")
    search.index_many(coupons)
    rows = list(collection(database).find())
    collection(database).insert_many([row | {"_id": row["_id"] + "-", "version": 3} for row in rows])
    codes = sorted(coupon.code for coupon in coupons)
    assert [found["couponCode"] for found in search.find(Query("ann"), 4)] == codes[:4]
    assert [found["couponCode"] for found in search.find(Query("ann"), 6)] == codes
    assert [found["couponCode"] for found in search.find(Query("ann"), 10, codes[3])] == codes[4:]
    assert {found["version"] for found in search.find(Query("ann"), 10)} == {3}


def test_what_others_wrote_into_the_collection_spoils_no_list(search, database):
    coupons = held(some_coupons(3), "ann")
    search.index_many(coupons)
    forged = [
        {"userId": "ann", "version": 1},
        {"userId": "ann", "couponCode": ["A" * 19, "Z" * 19], "version": 1},
        {"userId": "ann", "couponCode": 5},
        {"userId": "ann", "couponCode": "Z" * 19, "version": "new", "createdAt": b"\xff"},
        {"userId": "ann", "couponCode": coupons[0].code, "version": None},
    ]
    collection(database).insert_many(forged[:4])
    assert held_codes(search) == sorted(coupon.code for coupon in coupons)
    search.index_many(held(coupons, "ann", version=3))
    assert held_codes(search) == sorted(coupon.code for coupon in coupons)


def test_what_others_wrote_into_the_log_is_told(search, database, url):
    database["coupon.generations"].insert_one({"_id": "note", "present": "by hand"})
    search.ping()
    database["coupon.generations"].insert_one({"_id": 99, "present": 5})
    with pytest.raises(BackendUnavailable, match="not Coupon's"):
        search.ping()


def test_nothing_makes_an_index_by_the_way(url, database):
    with closing(opened(url)) as search:
        for call in (search.ping, lambda: search.find(Query(), 10), lambda: search.index_many(some_coupons(1))):
            with pytest.raises(BackendUnavailable, match="coupon init"):
                call()
    assert database.list_collection_names() == []


def test_two_indices_in_a_database_know_nothing_of_each_other(search, url, database):
    with closing(opened(f"{url}&index=another")) as another:
        another.create()
        coupons, others = some_coupons(3), some_coupons(3)
        search.index_many(coupons)
        another.index_many(others)
        with another.rebuild() as rebuild:
            rebuild.add_many(others[:2])
        holds(search, coupons)
        holds(another, others[:2])


@pytest.mark.parametrize("address", ["/a%2Eb", "/%24x", "/x?index=a.b", "/x?index="])
def test_a_name_that_no_collection_can_have_is_an_error_of_configuration(address):
    with pytest.raises(ConfigurationError, match="letters, digits"):
        opened(f"mongodb://127.0.0.1{address}")


def test_what_mongodb_cannot_hold_is_rejected(search):
    [coupon] = some_coupons(1)
    with pytest.raises(BackendRejected):
        search.index_many([coupon._replace(version=2**63)])


def test_the_error_of_a_command_is_unavailable_unless_it_never_will(search, monkeypatch):
    for code, error in ((18, BackendUnavailable), (11600, BackendUnavailable), (121, BackendRejected)):

        def refused(*_, code=code):
            raise OperationFailure("refused", code)

        monkeypatch.setattr(Rows, "find", refused)
        with pytest.raises(error, match=str(code)):
            search.find(Query(), 10)


def test_nothing_is_left_behind_by_rebuilds(search, database):
    for _ in range(2):
        with search.rebuild() as rebuild:
            rebuild.add_many(some_coupons(1))
    with pytest.raises(ZeroDivisionError), search.rebuild():
        1 / 0  # noqa: B018
    assert len(database.list_collection_names()) == 2  # the present generation, and the log


def test_a_writer_who_saw_the_past_generation_only_writes_to_the_present_one_and_leaves_nothing(search, url, database):
    coupons, late = some_coupons(3), some_coupons(3)
    with closing(opened(url)) as other:
        look = other.generations.look()
        with search.rebuild() as rebuild:
            rebuild.add_many(coupons)
        other.generations.recent = lambda: look  # it has been asleep since
        other.index_many(late)
    holds(search, [*coupons, *late])
    assert len(database.list_collection_names()) == 2


def test_a_reader_who_was_asleep_during_a_rebuild_reads_the_present_generation(search, url):
    coupons = some_coupons(3)
    search.index_many(coupons)
    with closing(opened(url)) as other:
        look = other.generations.look()
        with search.rebuild() as rebuild:
            rebuild.add_many(coupons)
        other.generations.recent = lambda: look
        assert len(other.find(Query(), 10)) == 3


def test_a_document_that_is_indexed_while_a_rebuild_begins_is_in_it(search, url, monkeypatch):
    """The rebuild begins after the writer's look at the log, and has read the store before the document is there."""
    [coupon] = some_coupons(1)
    rebuildings, write = [], Rows.write

    def begins_meanwhile(rows, coupons):
        write(rows, coupons)
        if not rebuildings:
            rebuildings.append(search.rebuild())
            rebuildings[0].__enter__()

    monkeypatch.setattr(Rows, "write", begins_meanwhile)
    search.index_many([coupon])
    rebuildings[0].__exit__(None, None, None)
    holds(search, [coupon])


def test_of_several_that_change_the_log_at_once_one_does(url):
    with closing(opened(url)) as one, closing(opened(url)) as other:
        assert isinstance(one, MongoSearch)
        assert isinstance(other, MongoSearch)
        old = one.generations.look().state
        assert one.generations.change(old, "coupon.a", None)
        assert not other.generations.change(old, "coupon.b", None)
        assert one.generations.change(old, "coupon.a", None)  # the driver sent it twice
        assert other.generations.look().state == mongodb_generations.State(1, "coupon.a", None)


def test_a_rebuild_whose_end_was_not_answered_is_either_whole_or_not_there(search, monkeypatch):
    coupons, others = some_coupons(5), some_coupons(5)
    search.index_many(coupons)
    rebuilding, change = search.rebuild(), search.generations.change
    rebuilding.__enter__().add_many(others)

    def answer_is_lost(*arguments):
        change(*arguments)
        raise BackendUnavailable("the answer was lost")

    monkeypatch.setattr(search.generations, "change", answer_is_lost)
    with pytest.raises(BackendUnavailable):
        rebuilding.__exit__(None, None, None)
    monkeypatch.undo()
    holds(search, others)
    with search.rebuild() as rebuild:
        rebuild.add_many(coupons)
    holds(search, coupons)
