"""Counters, gauges and histograms of a process, and their sums over several."""

import sys
import threading

import pytest

from coupon.runtime import instruments, metrics_text
from coupon.runtime.instruments import BUCKETS_S, Counter, Gauge, Histogram, added, without_gauges


@pytest.fixture(autouse=True)
def table(monkeypatch):
    """Without the instruments of the application."""
    made: list[instruments.Instrument] = []
    monkeypatch.setattr(instruments, "ALL", made)
    monkeypatch.setattr(metrics_text, "ALL", made)


def lines(*numbers, asked=metrics_text.NOTHING):
    text = metrics_text.text(added(numbers or [instruments.numbers()]), asked).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_a_counter_grows_by_its_labels():
    counter = Counter("c", "A counter.", "kind", "outcome")
    counter.add("issue", "accepted")
    counter.add("issue", "accepted", by=2)
    counter.add("use", "refused")
    assert lines() == ['c_total{kind="issue",outcome="accepted"} 3.0', 'c_total{kind="use",outcome="refused"} 1.0']


def test_a_histogram_has_each_value_in_its_bucket_and_in_those_above():
    histogram = Histogram("h_seconds", "Times.")
    for seconds in (0.0005, BUCKETS_S[0], 0.04, 40):
        histogram.observe(seconds)
    shown = dict(line.rsplit(" ", 1) for line in lines())
    assert shown['h_seconds_bucket{le="0.001"}'] == "2.0"
    assert shown['h_seconds_bucket{le="0.025"}'] == "2.0"
    assert shown['h_seconds_bucket{le="0.05"}'] == "3.0"
    assert shown['h_seconds_bucket{le="30.0"}'] == "3.0"
    assert shown['h_seconds_bucket{le="+Inf"}'] == shown["h_seconds_count"] == "4.0"
    assert float(shown["h_seconds_sum"]) == pytest.approx(40.0415)


def test_a_gauge_is_set_moved_or_looked_up():
    gauge, values = Gauge("g", "A gauge.", "what"), [7]
    gauge.set(3, "set")
    gauge.add(2, "moved")
    gauge.add(-1, "moved")
    gauge.watch(lambda: values[0], "looked up")
    assert lines() == ['g{what="looked up"} 7.0', 'g{what="moved"} 1.0', 'g{what="set"} 3.0']
    values[0] = 8
    assert lines()[0] == 'g{what="looked up"} 8.0'


def test_several_processes_are_added_up_and_of_those_that_ended_no_gauge():
    counter, gauge, histogram = Counter("c", "", "x"), Gauge("g", ""), Histogram("h", "")
    counter.add("one", by=2)
    gauge.set(1)
    histogram.observe(0.1)
    one = instruments.numbers()
    counter.add("other")
    both = lines(one, without_gauges(instruments.numbers()))
    assert {'c_total{x="one"} 4.0', 'c_total{x="other"} 1.0', "g 1.0", "h_count 2.0"} <= set(both)
    assert one["c"] == {("one",): [2]}, "adding up changes none of them"


def test_what_is_asked_for_is_shown_and_what_has_no_value_is_not():
    Counter("c", "Nothing was counted.")
    gauge = Gauge("g", "A gauge.", "topic")
    assert lines() == []
    assert lines(asked={gauge: {("commands",): 5}}) == ['g{topic="commands"} 5.0']


@pytest.mark.parametrize("make", [lambda: Counter("c", ""), lambda: Histogram("h", "")])
def test_many_threads_lose_no_observation(make):
    """It holds as long as the interpreter switches threads at calls and loops only."""
    instrument, kept = make(), sys.getswitchinterval()
    observe = instrument.add if isinstance(instrument, Counter) else lambda: instrument.observe(1)
    threads = [threading.Thread(target=lambda: [observe() for _ in range(20_000)]) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(kept)
    assert instrument.read()[()][-1] == 80_000
