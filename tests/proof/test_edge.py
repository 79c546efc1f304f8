"""Store and search answer rightly or not at all under faults that the emulators never show.

The drivers' edge injects them, and a test sees that it does.
"""

import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from backends.testing.search import opened as search_at
from backends.testing.search import walk
from backends.testing.store import opened as store_at
from coupon.domain.serialization import document
from coupon.ports.search import Query
from tests.contracts.conftest import dynamodb_table
from tests.contracts.test_search import drop
from tests.proof.at_the_edge import KINDS, Outcome
from tests.services import ROOT, Services

__all__ = ["dynamodb_table"]
EDGE = ROOT / "tests" / "proof" / "chaos" / "edge"


@pytest.fixture
def index(services: Services) -> Iterator[str]:
    name = f"test-{secrets.token_hex(6)}"
    yield name
    drop(services.elasticsearch, name)


@pytest.mark.services
def test_what_the_store_says_under_faults_of_its_edge_is_true(
    services: Services, dynamodb_table: str, tmp_path: Path
) -> None:
    url = f"dynamodb://{services.dynamodb}?table={dynamodb_table}&timeout_s=10"
    with closing(store_at(url)) as store:
        store.create()
        for outcome in at_the_edge("store", url, tmp_path):
            truth = {coupon.code: coupon for coupon in outcome.written}
            assert store.get_many(truth) == truth != {}


@pytest.mark.services
def test_what_the_search_says_under_faults_of_its_edge_is_true(services: Services, index: str, tmp_path: Path) -> None:
    url = f"elasticsearch://{services.elasticsearch}?index={index}&timeout_s=10"
    with closing(search_at(url)) as search:
        search.create()
        outcomes = at_the_edge("search", url, tmp_path)
        with Elasticsearch(f"http://{services.elasticsearch}") as raw:
            raw.indices.refresh(index=index)
        found = {each["couponCode"]: each for each in walk(search, Query())}
    for outcome in outcomes:
        assert all(found[coupon.code] == document(coupon) for coupon in outcome.written)
    assert any(coupon.code not in found for outcome in outcomes for coupon in outcome.unknown)


def at_the_edge(role: str, url: str, folder: Path) -> list[Outcome]:
    """The outcomes of two processes, each of which has seen every kind of fault."""
    environ = {**os.environ, "PYTHONPATH": f"{EDGE}:{ROOT}", "CHAOS_EDGE": "0.3", "CHAOS_EDGE_LOG": str(folder)}
    command = [sys.executable, "-m", "tests.proof.at_the_edge", role, url, str(folder)]
    ran = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    seen = [set(log.read_text().split()) for log in folder.glob("*.edge")]
    assert seen == [KINDS[role]] * 2
    return [Outcome(*pickle.loads(file.read_bytes())) for file in folder.glob("*.pickle")]
