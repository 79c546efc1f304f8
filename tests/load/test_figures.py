"""The figures of a load run. None of this needs Locust."""

import json
from pathlib import Path

import pytest

from backends.queue.memory import MemoryQueue
from coupon.ports.url import Url
from tests.load.lag import Lag, Sample
from tests.load.shape import Shape
from tests.load.summary import Counts, percentile

SHAPE = Shape(seconds=100, users=20)


def test_a_run_ramps_up_holds_has_a_spike_and_ramps_down() -> None:
    assert [SHAPE.users_at(second) for second in (0, 7.5, 15, 59, 60, 64, 65, 90, 95, 100)] == [
        1, 10, 20, 20, 30, 30, 20, 20, 10, 0,
    ]  # fmt: skip


def test_the_rate_is_that_of_the_plateau_alone(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    entry = {"name": "use", "start_time": 1000.0, "last_request_timestamp": 1100.0, "num_failures": 0}
    a_second = {second: 7 if SHAPE.is_plateau(second - 1000) else 99 for second in range(1000, 1100)}
    entry |= {"response_times": {5: 1}, "num_requests": 1, "num_reqs_per_sec": a_second}
    file.write_text(
        json.dumps(
            {"entries": [{**entry, "method": "PUT"}, {**entry, "method": "GET"}], "errors": [], "exceptions": []}
        )
    )
    counts = Counts(file, SHAPE)
    assert counts.plateau("POST", "PUT") == 7
    assert counts.plateau("GET", "POST", "PUT") == 14


@pytest.mark.parametrize(("share", "ms"), [(0.5, 3), (0.9, 3), (0.95, 800), (1, 800)])
def test_a_percentile_is_a_time_that_was_seen(share: float, ms: int) -> None:
    assert percentile({800: 1, 3: 8, 2: 1}, share) == ms


def test_the_lag_is_back_at_the_first_look_after_the_end_that_finds_none() -> None:
    lag = Lag(MemoryQueue.from_url(Url("memory://")), [])
    lag.samples = [Sample(8, 0), Sample(9, 70), Sample(11, 4), Sample(12, None), Sample(13, 0), Sample(14, 0)]
    assert lag.back_after(10, within_s=60) == 3
    assert lag.largest == 70
