"""One winner: sixteen callers race to issue one code, a hundred times."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.web.conftest import Api

CALLERS, ROUNDS = 16, 100


@pytest.fixture
def environ(environ):
    """On a machine that is busy with other things, nobody gives up waiting for a rival's reservation."""
    return environ | {"COUPON_RESERVATION_WAIT_MS": "4000"}


def test_of_sixteen_callers_who_race_for_a_coupon_exactly_one_wins(app, drain, api):
    codes = api.create(amount=ROUNDS).json["couponCodes"]
    drain()
    start = threading.Barrier(CALLERS)

    def race(caller: int, code: str) -> int:
        start.wait()
        return Api(app.test_client()).issue(code, f"user {caller}").status_code

    with ThreadPoolExecutor(CALLERS) as callers:
        winners = {}
        for code in codes:
            answers = list(callers.map(race, range(CALLERS), [code] * CALLERS))
            assert sorted(answers) == [202] + [409] * (CALLERS - 1)
            winners[code] = f"user {answers.index(202)}"
    drain()
    for code, winner in winners.items():
        coupon = api.get(f"/v1/coupons/{code}").json
        assert (coupon["userId"], [entry["command"] for entry in coupon["history"]]) == (winner, ["create", "issue"])


def test_without_a_cache_the_store_finds_the_one_winner(app, api, code, backends, working):
    """Each is told what became of his command, or to try again."""
    backends.cache.close()
    with ThreadPoolExecutor(CALLERS) as callers:
        answers = list(callers.map(lambda user: Api(app.test_client()).issue(code, f"user {user}"), range(CALLERS)))
    assert [answer.status_code for answer in answers].count(202) == 1
    reasons = {answer.json["code"] for answer in answers if answer.status_code != 202}
    assert reasons <= {"RIVAL_WON", "ALREADY_ISSUED", "BUSY"}
    winner = next(f"user {place}" for place, answer in enumerate(answers) if answer.status_code == 202)
    assert api.get(f"/v1/coupons/{code}").json["userId"] == winner
