"""Each promise, broken in the records of a run, is told; a sound run is told to be sound."""

from dataclasses import replace

import pytest

from coupon import settings
from coupon.codes import Mint
from coupon.model import Reason, Rejection
from coupon.operations import ChangeAddress, Operations
from tests.proof.checker import violations
from tests.proof.record import CALLER, Evidence, Observed, Request
from tests.proof.simulation.faults import Faults
from tests.proof.simulation.world import World


@pytest.fixture
def evidence(tmp_path, monkeypatch):
    """What a simulated run without faults leaves: the first one in which a coupon has some history."""
    monkeypatch.setattr(Faults, "strikes", lambda *_, **__: False)
    environ = {"COUPON_CONF": "conf/test.env", "COUPON_HEARTBEAT_FILE": str(tmp_path / "worker.heartbeat")}
    runs = (lived(World(seed, settings.load(environ))) for seed in range(100))
    return next(run for run in runs if max(coupon.version for coupon in run.coupons.values()) > 3)


def lived(world: World) -> Evidence:
    try:
        assert world.live() == []
    finally:
        world.scheduler.close()
    return world.evidence


def promises(evidence: Evidence, **changes) -> set[str]:
    return {violation.promise for violation in violations(replace(evidence, **changes))}


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
    coupons = changed(evidence, code, history=coupon.history[:-1], version=coupon.version - 1)
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


def test_a_rejection_that_was_known_before_its_rival_was_asked_for(evidence, code):
    coupon = evidence.coupons[code]
    winner = next(c for c in evidence.commands if c.operation == coupon.last_operation)
    loser = winner._replace(operation=evidence_operation(evidence, "loser"), accepted_at=winner.accepted_at + 1)
    rejection = Rejection(loser.operation, loser.previous_version, Reason.RIVAL_WON, loser.accepted_at)
    words = Request("x", loser.kind, "loser", code, loser.user_id, 0, -2.0, -1.0, 0)
    address = Operations(Mint(evidence.secret), None, None).address(ChangeAddress(loser.attempt, code))
    told = {
        "commands": [*evidence.commands, loser],
        "coupons": changed(evidence, code, rejections=(*coupon.rejections, rejection)),
        "requests": [*evidence.requests, words],
    }
    assert promises(evidence, **told) == set()
    seen = Observed(address, -2.0, -1.0, "rejected", "RIVAL_WON")
    assert promises(evidence, **told, observed=[*evidence.observed, seen]) == {"rejected for a rival only"}


def test_a_command_that_was_carried_out_though_the_answer_was_no(evidence):
    operation = accepted(evidence).address.split("-")[0]
    requests = [
        r._replace(status=409, reason="ALREADY_USED", address="") if r.address.startswith(operation) else r
        for r in evidence.requests
    ]
    assert "no is no" in promises(evidence, requests=requests)


def evidence_operation(evidence: Evidence, key: str) -> str:
    return Mint(evidence.secret).operation(CALLER, key)


def test_a_dead_letter(evidence):
    assert promises(evidence, letters=["bad"]) == {"no dead letters"}
