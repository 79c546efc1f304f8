"""Each promise, broken in the records of a run, is told; a sound run is told to be sound."""

from dataclasses import replace

import pytest

from coupon.acceptance.operations import ChangeRef, Operations
from coupon.domain.codes import CodeDeriver
from coupon.domain.model import Reason, Rejection
from coupon.runtime import settings
from tests.proof.checker import NOT_YET_KEPT, violations
from tests.proof.record import CALLER, Evidence, Observed, Request
from tests.proof.simulation.faults import Faults
from tests.proof.simulation.world import World

pytestmark = pytest.mark.logs_error("forged messages")


@pytest.fixture
def evidence(tmp_path, monkeypatch):
    """What a simulated run without faults leaves: the first one in which a coupon has some history."""
    monkeypatch.setattr(Faults, "strikes", lambda *_, **__: False)
    environ = {"COUPON_CONF": "conf/test.env", "COUPON_HEARTBEAT_FILE": str(tmp_path / "worker.heartbeat")}
    runs = (lived(World(seed, settings.load(environ))) for seed in range(100))
    return next(run for run in runs if max(coupon.version for coupon in run.coupons.values()) > 3)


def lived(world: World) -> Evidence:
    try:
        assert [violation for violation in world.live() if violation.promise not in NOT_YET_KEPT] == []
    finally:
        world.scheduler.close()
    return world.evidence


def promises(evidence: Evidence, **changes) -> set[str]:
    return {violation.promise for violation in violations(replace(evidence, **changes), everything=True)}


def changed(evidence, code, **changes):
    """The store, with one coupon that is another."""
    return {**evidence.coupons, code: evidence.coupons[code]._replace(**changes)}


@pytest.fixture
def code(evidence):
    """A coupon with some history."""
    return max(evidence.coupons, key=lambda code: evidence.coupons[code].version)


def accepted(evidence) -> Request:
    return next(r for r in evidence.requests if r.accepted and r.code)


def test_a_sound_run_is_sound(evidence, code):
    assert promises(evidence) == set()
    assert evidence.coupons[code].version >= 3


def test_an_accepted_command_that_the_queue_does_not_have(evidence):
    operation = accepted(evidence).address.split("-")[0]
    commands = [command for command in evidence.commands if command.operation != operation]
    assert "nothing accepted is lost" in promises(evidence, commands=commands)


def test_a_coupon_that_was_never_created(evidence, code):
    coupons = {other: coupon for other, coupon in evidence.coupons.items() if other != code}
    assert {"nothing accepted is lost", "every command is settled"} <= promises(evidence, coupons=coupons)


def test_a_command_that_was_accepted_and_forgotten(evidence, code):
    coupon = evidence.coupons[code]
    history = coupon.history[:-1]
    coupons = changed(evidence, code, history=history, version=coupon.version - 1, settled=history[-1].number)
    assert {"one outcome", "every command is settled"} <= promises(evidence, coupons=coupons)


def test_a_command_that_happened_twice(evidence, code):
    coupon = evidence.coupons[code]
    coupons = changed(evidence, code, history=(*coupon.history, coupon.history[-1]), version=coupon.version + 1)
    assert {"nothing happens twice", "one chain"} <= promises(evidence, coupons=coupons)


def test_a_coupon_that_is_not_what_its_commands_make_of_it(evidence, code):
    coupons = changed(evidence, code, user_id="somebody else")
    assert "the store equals the fold" in promises(evidence, coupons=coupons)


def test_a_command_that_nobody_asked_for(evidence):
    forged = evidence.commands[-1]
    commands = [*evidence.commands, forged._replace(operation="from-nowhere")]
    assert "nothing from nowhere" in promises(evidence, commands=commands)


def test_a_code_held_by_two(evidence, code):
    coupon = evidence.coupons[code]
    issues = [entry for entry in coupon.history if entry.kind == "issue"]
    history = (*coupon.history[:1], *issues[:1], *issues[:1])
    coupons = changed(evidence, code, history=history, version=len(history))
    assert "one winner" in promises(evidence, coupons=coupons)


def test_a_document_that_is_past(evidence, code):
    documents = {**evidence.documents, code: {**evidence.documents[code], "version": 1}}
    assert promises(evidence, documents=documents) == {"search equals the store"}


def test_a_document_of_no_coupon(evidence, code):
    documents = {**evidence.documents, "Z" * 19: evidence.documents[code]}
    assert promises(evidence, documents=documents) == {"search equals the store"}


def test_a_cache_that_is_ahead(evidence, code):
    coupon = evidence.coupons[code]
    ahead = coupon._replace(history=(*coupon.history, coupon.history[-1]), version=coupon.version + 1)
    assert promises(evidence, cached={code: ahead}) == {"the cache is not ahead"}


def test_an_outcome_that_was_taken_back(evidence):
    request = accepted(evidence)
    seen = Observed(request.address, request.ended, request.ended, "rejected")
    assert "outcomes are for good" in promises(evidence, observed=[*evidence.observed, seen])


def test_a_refusal_for_no_reason(evidence, code):
    request = Request("x", "cancel-use", "k", code, None, 0, float("inf"), float("inf"), 409, "ALREADY_ISSUED")
    assert "refusals follow" in promises(evidence, requests=[*evidence.requests, request])


def test_a_coupon_that_was_seen_and_then_not_found(evidence, code):
    request = Request("x", "use", "k", code, None, 0, float("inf"), float("inf"), 404, "NOT_FOUND")
    assert "refusals follow" in promises(evidence, requests=[*evidence.requests, request])


def test_what_was_accepted_before_another_was_asked_for_and_comes_after_it(evidence, code):
    first, second = evidence.coupons[code].history[1:3]
    at = {entry.operation: place for place, entry in enumerate((second, first))}
    requests = []
    for request in evidence.requests:
        place = at.get(request.address.split("-")[0])
        requests.append(request if place is None else request._replace(sent=place * 10.0, ended=place * 10.0 + 1))
    assert "in the order of real time" in promises(evidence, requests=requests)


def test_a_command_that_was_applied_though_the_answer_was_no(evidence):
    operation = accepted(evidence).address.split("-")[0]
    requests = [
        r._replace(status=409, reason="ALREADY_USED", address="") if r.address.startswith(operation) else r
        for r in evidence.requests
    ]
    assert "no is no" in promises(evidence, requests=requests)


def test_what_was_rejected_and_is_no_command_or_was_applied_too(evidence, code):
    coupon = evidence.coupons[code]
    last = coupon.history[-1]
    for operation, promise in (("nobody's", "nothing from nowhere"), (last.operation, "one outcome")):
        rejection = Rejection(operation, coupon.version - 1, Reason.RIVAL_WON, last.at, last.number)
        assert promise in promises(evidence, coupons=changed(evidence, code, rejections=(rejection,)))


def test_a_dead_letter(evidence):
    assert promises(evidence, dead_letters=["bad"]) == {"no dead letters"}


def test_a_key_that_was_taken_for_two_requests(evidence, code):
    """While the cache is well, the second is refused, and said to be."""
    first = accepted(evidence)
    other = first._replace(user_id="eve", sent=first.ended + 1, ended=first.ended + 2, address="", status=0)
    for status, broken in ((0, False), (503, False), (422, False), (409, True), (404, True)):
        requests = [*evidence.requests, other._replace(status=status, reason="NOT_USED")]
        assert ("a key belongs to one request" in promises(evidence, requests=requests, well=True)) is broken
        assert "a key belongs to one request" not in promises(evidence, requests=requests, well=False)
    both = [*evidence.requests, other._replace(status=202, address=first.address)]
    assert {"a key belongs to one request", "one name, one thing"} <= promises(evidence, requests=both, well=True)


def test_a_refusal_for_another_request_that_there_was_not(evidence, code):
    request = Request("x", "use", "k", code, None, 0, 10.0, 11.0, 422, "IDEMPOTENCY_KEY_REUSED")
    other = request._replace(user_id="eve", sent=1.0, ended=2.0, status=202, address=accepted(evidence).address)
    promise = "422 for another request only"
    assert promise not in promises(evidence, requests=[*evidence.requests, request])  # nobody used it twice at all
    for status, sent, broken in ((0, 1.0, False), (409, 1.0, True), (409, 9.0, False), (0, 12.0, True)):
        first = other._replace(status=status, sent=sent, ended=sent + 2, address="")
        requests = [*evidence.requests, first, request]
        assert (promise in promises(evidence, requests=requests, well=True)) is broken
        was_refused_before = status == 409 and sent == 1.0
        assert (promise in promises(evidence, requests=requests, well=False)) is (broken and not was_refused_before)


@pytest.mark.parametrize("words", [{"user_id": "eve"}, {"kind": "cancel"}, {"code": "Z" * 19}])
def test_applied_that_was_told_for_other_words(evidence, words):
    request = accepted(evidence)
    seen = Observed(request.address, request.ended, request.ended, "applied")
    changed = request._replace(**words)
    assert "applied means in these words" in promises(evidence, requests=[*evidence.requests, changed], observed=[seen])
    assert "applied means in these words" in promises(evidence, requests=[changed._replace(status=200)], observed=[])


def test_a_creation_that_was_applied_with_other_days_or_another_amount(evidence):
    request = next(r for r in evidence.requests if r.accepted and r.kind == "create")
    for words in ({"expire_at": "2098-01-01"}, {"amount": request.amount + 1}):
        other = request._replace(**words, status=200)
        assert "applied means in these words" in promises(evidence, requests=[*evidence.requests, other])


@pytest.mark.parametrize(
    ("first", "then"),
    [("applied", "accepted"), ("rejected", "accepted"), ("applied", "rejected"), ("forgotten", "applied")],
)
def test_an_outcome_that_flipped(evidence, first, then):
    address = accepted(evidence).address
    seen = [Observed(address, 1.0, 2.0, first), Observed(address, 3.0, 4.0, then)]
    assert "outcomes never flip" in promises(evidence, observed=seen)
    overlapping = [seen[0], seen[1]._replace(sent=1.5)]
    assert "outcomes never flip" not in promises(evidence, observed=overlapping)


def test_a_yes_that_was_taken_back_for_ones_own_command(evidence, code):
    """The rival is the client's own earlier one, or one that was over when this one began."""
    coupon = evidence.coupons[code]
    winner = next(c for c in evidence.commands if c.operation == coupon.last_operation)
    mine = next(r for r in evidence.requests if r.address.startswith(winner.operation))
    words = "\0".join((mine.kind, mine.code, mine.user_id or ""))
    loser = winner._replace(operation=CodeDeriver(evidence.secret).operation(CALLER, "loser", words))
    address = Operations(CodeDeriver(evidence.secret), None, None).address(
        ChangeRef(loser.operation, loser.number, code)
    )
    rejection = Rejection(loser.operation, loser.previous_version, Reason.RIVAL_WON, loser.accepted_at, loser.number)
    evidence.landed.pop(winner)

    def promises_with(client, sent, **changes):
        request = mine._replace(client=client, key="loser", sent=sent, ended=sent + 1, address=address)
        return promises(
            evidence,
            **{
                "commands": [*evidence.commands, loser],
                "coupons": changed(evidence, code, rejections=(*coupon.rejections, rejection)),
                "requests": [*evidence.requests, request],
                **changes,
            },
        )

    promise = "rejected for another's command only"
    assert promise in promises_with(mine.client, mine.sent)
    lone = [*evidence.commands, winner._replace(reserved=False)]
    assert promise in promises_with(mine.client, mine.sent, commands=[*lone, loser])
    assert promise not in promises_with(mine.client, mine.sent, commands=[*lone, loser], owed_to_the_cache={code})
    early = next(c for c in evidence.commands if getattr(c, "code", "") == code and c != winner)
    other = [early._replace(reserved=False), *evidence.commands]  # excuses nobody but those whose place it took
    assert promise in promises_with(mine.client, mine.sent, commands=[*other, loser], owed_to_the_cache={code})
    assert promise in promises_with("another", mine.ended + 1)
    assert promise not in promises_with("another", mine.sent)
    late = mine._replace(client="another", key="loser", sent=mine.ended + 1, ended=mine.ended + 2, address=address)
    unanswered = [one._replace(status=0, address="") if one == mine else one for one in evidence.requests] + [late]
    for reserved in (True, False):  # without the cache it is under way until its client is answered
        sent = [command for command in evidence.commands if command != winner]
        changes = {
            "commands": [*sent, winner._replace(reserved=reserved), loser],
            "requests": unanswered,
            "applied": {winner.operation: mine.ended},
        }
        assert (promise in promises_with("another", late.sent, **changes)) is reserved


def test_answers_that_contradict_each_other(evidence):
    """Of the only client of a coupon: a yes after a yes, and a no that nothing gives a reason for."""
    created = next(r for r in evidence.requests if r.accepted and r.kind == "create")
    code, promise = created.codes[0], "yes and no do not contradict each other"
    rest = [request for request in evidence.requests if request.code != code]
    issue = Request("x", "issue", "1", code, "ann", 0, 1.0, 2.0, 202, address=accepted(evidence).address)
    again = issue._replace(key="2", user_id="bob", sent=3.0, ended=4.0)
    for status, reason, broken in (
        (202, "", True),
        (409, "ALREADY_ISSUED", False),
        (409, "ALREADY_USED", True),
        (503, "", False),
    ):
        second = again._replace(status=status, reason=reason)
        assert (promise in promises(evidence, requests=[*rest, issue, second])) is broken
    assert promise not in promises(evidence, requests=[*rest, issue, again._replace(client="y")])
    lost = issue._replace(status=409, reason="RIVAL_WON", address="")
    assert promise in promises(evidence, requests=[*rest, lost, again])
    assert promise not in promises(evidence, requests=[*rest, lost, again._replace(sent=1.5)])
    assert promise not in promises(evidence, requests=[*rest, issue._replace(status=0), again])
