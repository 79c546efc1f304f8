"""Refusals that would share a sentence have their own, and say what to do about it."""

import pytest

from coupon.domain.model import Reason
from coupon.domain.protocol import AttemptState, AttemptStatus
from coupon.web.problems import TITLES
from tests.web.conftest import TODAY
from tests.web.problems import problem

DAY_MS = 86_400_000
BY_ANN = "It is held by the very user that was named."
BY_ANOTHER = "It is held by another user than the one that was named."
UNDO = "Undo its use first, with PUT /v1/coupons/cancel-use."
LAST_DAY = f"Its last day was {TODAY}."


@pytest.fixture
def old(api, drain, clock):
    """The codes of three coupons whose last day was yesterday: one is free, one held, one used."""
    free, held, used = api.create(3, last=TODAY).json["couponCodes"]
    drain()
    for code in (held, used):
        api.issue(code)
    api.use(used)
    clock.ms += DAY_MS
    return free, held, used


def detail(answer):
    return problem(answer).get("detail")


def test_no_two_codes_have_the_same_title():
    titles = [title for _, title in TITLES.values()]
    assert len(set(titles)) == len(titles)


def test_who_asks_is_told_whether_he_holds_it_and_never_who_else(api, code):
    api.issue(code, "ann")
    assert detail(api.issue(code, "ann")) == BY_ANN
    answer = api.issue(code, "bob")
    assert detail(answer) == BY_ANOTHER
    assert "ann" not in answer.text
    assert detail(api.issue(code, "Ann")) == BY_ANOTHER


def test_the_same_is_told_when_the_store_says_so(api, code, drain, backends):
    api.issue(code, "ann")
    drain()
    backends.cache.close()
    assert (detail(api.issue(code, "ann")), detail(api.issue(code, "bob"))) == (BY_ANN, BY_ANOTHER)


def test_who_cancels_a_used_coupon_is_pointed_to_the_undoing_of_its_use(api, code):
    api.issue(code)
    api.use(code)
    assert detail(api.cancel(code)) == UNDO
    assert detail(api.use(code)) is None
    assert api.client.put(UNDO.split()[-1].rstrip("."), json={"couponCode": code}).status_code == 202
    assert api.cancel(code).status_code == 202


def test_what_is_over_is_told_with_its_last_day(api, old):
    free, held, used = old
    answers = {"issue": api.issue(free), "cancel": api.cancel(held), "use": api.use(held), "undo": api.cancel_use(used)}
    assert {detail(answer) for answer in answers.values()} == {LAST_DAY}
    titles = {name: problem(answer)["title"] for name, answer in answers.items()}
    assert titles["issue"] == titles["cancel"] != titles["use"] == titles["undo"]


def test_what_has_not_begun_is_told_with_its_first_day(api, drain):
    code = api.create(1, first="2026-11-23").json["couponCodes"][0]
    drain()
    api.issue(code)
    assert detail(api.use(code)) == "Its first day is 2026-11-23."


@pytest.mark.parametrize(
    ("reason", "kind", "at_the_address", "who_waits"),
    [
        (Reason.ALREADY_EXPIRED, "issue", "Its last day was 2026-11-30.", "Its last day was 2026-11-30."),
        (Reason.ALREADY_ISSUED, "issue", None, BY_ANN),
        (Reason.ALREADY_USED, "cancel", None, UNDO),
        (Reason.RIVAL_WON, "use", None, None),
    ],
)
def test_after_acceptance_as_much_is_told_as_is_known(
    api, code, drain, monkeypatch, reason, kind, at_the_address, who_waits
):
    api.issue(code)
    drain()
    monkeypatch.setattr("coupon.acceptance.service.transition", lambda coupon, command: coupon)
    monkeypatch.setattr("coupon.acceptance.operations.outcome", lambda *_: AttemptStatus(AttemptState.REJECTED, reason))
    answer = api.client.put(
        f"/v1/coupons/{kind}",
        json={"couponCode": code} | ({"userId": "ann"} if kind == "issue" else {}),
        headers={"Prefer": "wait=5"},
    )
    assert (problem(answer)["code"], detail(answer)) == (reason, who_waits)
    outcome = api.get(answer.headers["Location"]).json
    assert (outcome["code"], outcome["detail"]) == (reason, " ".join(filter(None, (TITLES[reason][1], at_the_address))))
