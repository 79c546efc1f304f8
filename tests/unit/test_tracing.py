"""Spans are off unless a collector is named, and then need the extra."""

import sys

import pytest
from structlog.testing import capture_logs

from coupon.runtime.tracing import ENDPOINTS, open_tracer


@pytest.fixture(autouse=True)
def nobody_collects(monkeypatch):
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)


def test_without_a_collector_nothing_is_made_or_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with capture_logs() as lines:
        assert open_tracer("coupon-web") is None
    assert lines == []


@pytest.mark.parametrize("name", ENDPOINTS)
def test_without_the_extra_it_is_said_what_to_install(monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    with capture_logs() as lines:
        assert open_tracer("coupon-web") is None
    (line,) = lines
    assert line["event"] == "no spans"
    assert line["error"].endswith("run: pip install 'coupon[opentelemetry]'")
