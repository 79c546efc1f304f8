"""A rebuild of the index: whole or not there, whatever happens to its last request."""

import pytest
from elastic_transport import ConnectionTimeout

from backends.testing.coupons import some_coupons
from backends.testing.search import held, holds
from coupon.domain.errors import BackendUnavailable

pytestmark = [
    pytest.mark.services,
    pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon"),
]


def test_nothing_is_left_behind_by_rebuilds(search, raw, index):
    for _ in range(2):
        with search.rebuild() as rebuild:
            rebuild.add_many(some_coupons(1))
    with pytest.raises(ZeroDivisionError), search.rebuild():
        1 / 0  # noqa: B018
    [aliases] = (found["aliases"].keys() for found in raw.indices.get(index=f"{index}*").body.values())
    assert aliases == {index}


def test_a_rebuild_whose_end_was_not_answered_is_either_whole_or_not_there(search, edge):
    coupons, others = some_coupons(5), some_coupons(5)
    search.index_many(coupons)

    def lose_the_answer(ask):
        ask()
        raise ConnectionTimeout("the answer was lost")

    rebuilding = search.rebuild()
    rebuilding.__enter__().add_many(others)
    edge.put("/_aliases", lose_the_answer)
    with pytest.raises(BackendUnavailable):
        rebuilding.__exit__(None, None, None)
    edge.clear()
    holds(search, others)
    with search.rebuild() as rebuild:
        rebuild.add_many(coupons)
    holds(search, coupons)


def test_the_present_generation_is_never_thrown_away_even_when_it_became_so_just_now(search, edge, raw, index):
    """The end of a rebuild is delayed on its way until somebody has decided to discard the rebuild."""
    coupons = some_coupons(5)
    rebuilding = search.rebuild()
    rebuilding.__enter__().add_many(coupons)
    [old], [new] = raw.indices.get_alias(name=index), raw.indices.get_alias(name=f"{index}-next")

    def arrives_first(ask):
        edge.clear()
        swap = [
            {"add": {"index": new, "alias": index, "is_write_index": True}},
            {"remove": {"index": old, "alias": index}},
        ]
        raw.indices.update_aliases(actions=swap)
        return ask()

    edge.put("/_aliases", arrives_first)
    assert not rebuilding.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    holds(search, coupons)


def test_a_rebuild_that_was_killed_at_its_very_end_costs_nothing(search, edge, raw, index):
    coupons = some_coupons(5)
    rebuilding = search.rebuild()
    rebuilding.__enter__().add_many(coupons)

    def the_last_it_did(ask):
        ask()
        edge.instead(is_dead)
        raise ConnectionTimeout("killed")

    def is_dead(*_, **__):
        raise ConnectionTimeout("dead")

    edge.put("/_aliases", the_last_it_did)
    with pytest.raises(BackendUnavailable):
        rebuilding.__exit__(None, None, None)
    edge.clear()
    assert raw.indices.get_alias(name=f"{index}-next").keys() == raw.indices.get_alias(name=index).keys()
    holds(search, coupons)
    search.index_many(held(coupons, "ann"))
    holds(search, held(coupons, "ann"))
    with search.rebuild() as rebuild:
        rebuild.add_many(coupons[:2])
        holds(search, held(coupons, "ann"))
    holds(search, coupons[:2])
    assert len(raw.indices.get(index=f"{index}*").body) == 1
