"""Whether a run that is over kept the promises, told from its records alone: so a saved run can be judged again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.proof.chaos.plan import LANES, LINK_FAULTS
from tests.proof.chaos.probe import recovery
from tests.proof.chaos.records import AFTERWARDS, Injected, Saved, Unexpected
from tests.proof.chaos.result import Result
from tests.proof.checker import violations
from tests.proof.record import Evidence

Told = tuple[str, str]
"""A promise, and how it was broken."""
ONLY_THE_RUN_SAW = {"the harness works", "processes go on"}
ANSWERS, PROVES = "only promised answers", "the run proves something"
AFTER_THE_LAST_S = 30
"""So long the probe may go on after the last fault, until it has recovered from it."""
LATEST_S = 20.0
"""Slow links, whatever they do, make no answer later than this."""
EDGES = "dynamodb", "elasticsearch"
"""The servers whose drivers have faults at their edge."""


def judge(result: Result, found: Evidence, folder: Path) -> Result:
    """All violations: those that the run saw itself, those of its records, those of the evidence."""
    saved = Saved(folder)
    result.unjudged = []
    result.outcomes, result.checked = _outcomes(found), _checked(found)
    result.faults = dict(Counter(fault.name for fault in saved.faults))
    result.violations = [
        *((promise, what) for promise, what in result.own if promise in ONLY_THE_RUN_SAW),
        *_rest(result),
        *_answers(result, saved),
        *_recoveries(result, saved),
        *((PROVES, what) for what in _proves_nothing(result, saved.faults)),
        *violations(found),
    ]
    return result


def excuse(late: Unexpected, faults: Sequence[Injected]) -> str | None:
    """The fault that made an answer late; None when without it the answer would have been late all the same.

    Of those that can be, it is the one that hurt for the longest part of the wait. Of several that hurt for all of it,
    it is one of a process rather than of a link, and then the last that began.
    """
    able = [fault for fault in faults if _delays(fault, late) and _overlap(late, fault) > 0]
    if not able:
        return None
    cause = max(able, key=lambda fault: (_overlap(late, fault), fault.lane != "links", fault.began))
    return cause.name if late.ended - late.sent - _overlap(late, cause) <= late.limit_s else None


def _delays(fault: Injected, late: Unexpected) -> bool:
    """Whether the fault may make the web side late: a slow link, or a process that is killed or stopped.

    The process is one that was asked, its master or a sibling. An orphan holds the port until it has finished, or goes
    on, and ``ended`` is when the next one answers. Nobody may have to wait for any other fault.
    """
    if fault.kind in ("kill", "stop"):
        return fault.which.partition("/")[0] == late.master
    return fault.kind in ("delay", "slice") and "web-" in fault.target and late.ended - late.sent <= LATEST_S


def _overlap(late: Unexpected, fault: Injected) -> float:
    return min(late.ended, fault.ended) - max(late.sent, fault.began)


def _rest(result: Result) -> Iterator[Told]:
    if result.lag:
        by_topic = ", ".join(f"{number} of {topic}" for topic, number in result.left.items()) or "nobody knows of what"
        yield "comes to rest", f"{result.lag} messages were left after {result.drained_s:.0f} s: {by_topic}"


def _answers(result: Result, saved: Saved) -> Iterator[Told]:
    """Nothing excuses an answer that is none of the interface's, or any when the run has come to rest."""
    late: Counter[str] = Counter()
    for found in saved.unexpected:
        may_be_late = found.late and found.client != AFTERWARDS
        if cause := excuse(found, saved.faults) if may_be_late else None:
            late[cause] += 1
        else:
            yield ANSWERS, f"{found.client} at {found.sent:.3f}, of {found.master}: {found.what}"
    result.late = dict(late)


def _recoveries(result: Result, saved: Saved) -> Iterator[Told]:
    """From every fault, unless the run ended too soon after it to tell."""
    if saved.probed is None:
        result.unjudged.append("recovery from each fault: what was measured then is shown")
        return
    result.recovery = {}
    for fault in saved.faults:
        times = recovery(fault, saved.probed)
        name = fault.name if fault.lane != "links" else f"{fault.kind} of a link"
        result.recovery.setdefault(name, []).append(times)
        if None in times and result.ended - fault.ended >= AFTER_THE_LAST_S:
            what = "accepted" if times.accepted_s is None else "applied"
            yield "recovers", f"no command was {what} after {fault.name} ({fault.which}) at {fault.ended:.3f}"


def _proves_nothing(result: Result, faults: Sequence[Injected]) -> Iterator[str]:
    """What a run has to have met, or its promises were not tried."""
    if not sum(result.accepted.values()):
        yield "nothing was accepted"
    if not any(outcome.startswith("applied") for outcome in result.outcomes):
        yield "nothing was applied"
    refused = any(answer.startswith("409") for answer in result.answers)
    if not refused and not any(outcome.startswith("rejected") for outcome in result.outcomes):
        yield "nothing was rejected or refused"
    if result.is_long:
        yield from _never_struck(result, faults)
    if result.options.links:
        yield from _bypassed(result)


def _never_struck(result: Result, faults: Sequence[Injected]) -> Iterator[str]:
    links, edge = result.options.links, result.options.edge
    lanes = [lane for lane in LANES if links or lane != "links"]
    for lane in set(lanes) - {fault.lane for fault in faults}:
        yield f"no fault of the lane {lane} struck"
    of_links = {fault.kind for fault in faults if fault.lane == "links"}
    for kind in set(LINK_FAULTS if links else ()) - of_links:
        yield f"{kind} of a link never struck"
    for server in set(EDGES).intersection(result.options.servers) if edge else ():
        if not any(kind.startswith(f"{server}-") for kind in result.edge):
            yield f"no fault at the edge of {server} struck"


def _bypassed(result: Result) -> Iterator[str]:
    if not result.ended:
        result.unjudged.append("whether all traffic went through the links")
        return
    for name in result.options.servers.links:
        if not result.links.get(name):
            yield f"nothing came through the link {name}"


def _checked(found: Evidence) -> dict[str, int]:
    return {
        "requests": len(found.requests),
        "observations": len(found.observed),
        "reads": len(found.reads),
        "messages of the queue": len(found.commands),
        "coupons of the store": len(found.coupons),
        "documents": len(found.documents),
        "cached coupons": len(found.cached),
        "dead letters": len(found.dead_letters),
    }


def _outcomes(found: Evidence) -> dict[str, int]:
    """What became of the commands, as the store tells it."""
    outcomes: Counter[str] = Counter()
    for coupon in found.coupons.values():
        outcomes.update(f"applied {entry.kind}" for entry in coupon.history)
        outcomes.update(f"rejected {rejection.reason}" for rejection in coupon.rejections)
    return dict(outcomes)
