"""The short form of ``make chaos``: 20 kills of processes and servers, and all other faults, over 2,000 commands."""

import os

import pytest

from tests.e2e.deployment import Servers
from tests.proof.chaos.plan import LANES, MASTER, WEB, WORKER, plan
from tests.proof.chaos.report import markdown
from tests.proof.chaos.result import Options
from tests.proof.chaos.run import Run
from tests.proof.chaos.surroundings import CannotRunHere

SEED = 20
"""The faults of every run are the same; when they meet what, is not. ``make chaos`` takes another each time."""


ELSEWHERE = Servers(queue="redis", search="mongodb", cache="redis")
SEED_ELSEWHERE = 58
"""With it both servers are killed within seconds."""


@pytest.mark.services
def test_no_promise_is_broken_by_twenty_kills_over_2_000_commands(tmp_path):
    options = Options(seed=SEED, commands=2_000)
    result = went_well(options, tmp_path)
    assert result.commands >= options.commands
    for target in (WORKER, MASTER, WEB, *options.servers.names):
        assert result.faults[f"kill {target}"] >= 1


@pytest.mark.services
def test_no_promise_is_broken_on_redis_and_mongodb(tmp_path):
    result = went_well(Options(seed=SEED_ELSEWHERE, servers=ELSEWHERE, commands=300, kills=6), tmp_path)
    for server in ("redis", "mongodb"):
        assert result.faults[f"kill {server}"] >= 1


def went_well(options, folder):
    try:
        result = Run(options, folder).go()
    except CannotRunHere as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    assert not result.violations, markdown(result)
    return result


@pytest.mark.parametrize("lane", LANES)
def test_a_seed_chooses_the_same_faults_again(lane):
    again = [plan(1, lane), plan(1, lane), plan(2, lane)]
    first, second, other = ([next(faults) for _ in range(50)] for faults in again)
    assert first == second != other
