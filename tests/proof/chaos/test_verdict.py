"""What excuses a late answer, and what a run has to have met to prove anything."""

import json

import pytest

from tests.e2e.deployment import USUAL
from tests.proof.chaos.plan import LANES, LINK_FAULTS, links_to
from tests.proof.chaos.records import AFTERWARDS, Injected, Probed, Records, Unexpected
from tests.proof.chaos.result import Options, Result
from tests.proof.chaos.verdict import excuse, judge
from tests.proof.record import Evidence

STOP = Injected("stops", "stop", "gunicorn worker", "web1/77", 100, 110)
KILL = Injected("kills", "kill", "gunicorn master", "web1", 100, 110)
SLICE = Injected("links", "slice", "web-kafka worker-kafka", "web-kafka worker-kafka", 100, 125)


def late(sent=100.0, ended=111.0, limit_s=10.0, client="client0"):
    return Unexpected(client, sent, ended, "no answer", "web1", True, limit_s)


@pytest.mark.parametrize("fault", [STOP, KILL, SLICE])
def test_a_fault_that_can_delay_an_answer_excuses_it(fault):
    assert excuse(late(), [fault]) == fault.name


@pytest.mark.parametrize(
    "fault",
    [
        STOP._replace(which="web0/77"),
        KILL._replace(target="worker", which="worker1"),
        KILL._replace(target="dynamodb", which="dynamodb"),
        SLICE._replace(kind="black hole"),
        SLICE._replace(target="worker-kafka"),
        STOP._replace(began=90, ended=100),
    ],
)
def test_no_other_fault_excuses_it(fault):
    assert excuse(late(), [fault]) is None


def test_a_fault_excuses_only_as_much_as_it_lasted():
    assert excuse(late(ended=121), [STOP]) is None
    assert excuse(late(ended=121, limit_s=15), [STOP]) == STOP.name


def test_a_slow_link_never_excuses_an_answer_after_20_s():
    assert excuse(late(ended=119), [SLICE])
    assert excuse(late(ended=121), [SLICE]) is None


def test_the_cause_is_what_hurt_longest_and_of_several_the_last():
    longer, later = STOP._replace(kind="kill", began=95, ended=115), STOP._replace(kind="kill", began=98, ended=115)
    assert excuse(late(), [longer, STOP]) == longer.name
    assert excuse(late(), [longer, SLICE]) == longer.name
    assert excuse(late(), [later, longer._replace(kind="stop")]) == later.name


@pytest.fixture
def proving():
    """What a run of an hour has to have met."""
    return Result(
        Options(1, minutes=60),
        seconds=3_600,
        ended=1_000,
        accepted={"issue": 1},
        answers={"409 NOT_ISSUED": 1},
        edge={"dynamodb-lost-reply": 1, "elasticsearch-429": 1},
        links=dict.fromkeys(links_to(USUAL), 1),
        lag=0,
    )


FAULTS = [Injected(lane, "kill", "it", "it", 1, 2) for lane in LANES]
FAULTS += [Injected("links", kind, "web-kafka", "web-kafka", 1, 2) for kind in LINK_FAULTS]


def judged(result, folder, faults=tuple(FAULTS), probed=(), unexpected=()):
    """But for that nothing was applied, there being no evidence."""
    records = Records(folder)
    for fault in faults:
        records.fault(fault)
    for found in unexpected:
        records.surprise(found)
    for found in (Probed(3, 4, 5), *probed):
        records.probe(found)
    records.close()
    result.save(folder)
    violations = judge(Result.load(folder), Evidence("secret"), folder).violations
    return [what for _, what in violations if what != "nothing was applied"]


def violation_of(result, folder, **records):
    [what] = judged(result, folder, **records)
    return what


def test_a_run_that_met_all_is_sound(proving, tmp_path):
    assert judged(proving, tmp_path) == []


def test_a_fault_that_was_never_recovered_from_is_told(proving, tmp_path):
    never = Injected("kills", "kill", "worker", "worker1", 940, 950)
    assert "applied after kill worker" in violation_of(
        proving, tmp_path, faults=[*FAULTS, never], probed=[Probed(960, 961, None)]
    )


def test_a_fault_at_the_very_end_needs_not_be_recovered_from(proving, tmp_path):
    assert judged(proving, tmp_path, faults=[*FAULTS, Injected("kills", "kill", "worker", "worker1", 980, 990)]) == []


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_that_never_struck_is_told(proving, tmp_path, lane):
    faults = [fault for fault in FAULTS if fault.lane != lane]
    assert f"no fault of the lane {lane} struck" in judged(proving, tmp_path, faults=faults)


def test_a_short_run_needs_not_meet_all(proving, tmp_path):
    proving.seconds = 300
    assert judged(proving, tmp_path, faults=[]) == []


def test_what_was_not_asked_for_is_not_missed(proving, tmp_path):
    proving.options.links, proving.options.edge, proving.links, proving.edge = False, 0, {}, {}
    assert judged(proving, tmp_path, faults=[fault for fault in FAULTS if fault.lane != "links"]) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"accepted": {"issue": 0}}, "nothing was accepted"),
        ({"answers": {"202": 5}}, "nothing was rejected or refused"),
        ({"edge": {"dynamodb-lost-reply": 5}}, "no fault at the edge of elasticsearch struck"),
        ({"links": {**dict.fromkeys(links_to(USUAL), 1), "web-kafka": 0}}, "nothing came through the link web-kafka"),
        ({"lag": 3}, "3 messages were left after 0 s: nobody knows of what"),
        (
            {"lag": 3, "left": {"reindex": 1, "invalidate": 2}},
            "3 messages were left after 0 s: 1 of reindex, 2 of invalidate",
        ),
        ({"own": [("the harness works", "it does not")]}, "it does not"),
    ],
)
def test_what_a_run_did_not_meet_is_told(proving, tmp_path, changes, what):
    vars(proving).update(changes)
    assert violation_of(proving, tmp_path) == what


def test_at_rest_nothing_excuses_a_late_answer(proving, tmp_path):
    at_rest = late(client=AFTERWARDS)
    assert judged(proving, tmp_path, faults=[*FAULTS, STOP], probed=[Probed(200, 201, 202)], unexpected=[late()]) == []
    for file in tmp_path.iterdir():
        file.unlink()
    assert "afterwards" in violation_of(
        proving, tmp_path, faults=[*FAULTS, STOP], probed=[Probed(200, 201, 202)], unexpected=[at_rest]
    )


def test_a_run_of_an_earlier_harness_tells_what_cannot_be_judged(proving, tmp_path):
    proving.ended, proving.links = 0, {}
    judged(proving, tmp_path)
    (tmp_path / "probed.jsonl").unlink()
    saved = json.loads((tmp_path / "run.json").read_text())
    del saved["ended"], saved["links"], saved["unjudged"]
    (tmp_path / "run.json").write_text(json.dumps(saved))
    assert len(judge(Result.load(tmp_path), Evidence("secret"), tmp_path).unjudged) == 2
