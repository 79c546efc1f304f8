"""No process that works for long lets the garbage collector go through what it loaded (the web side's is in
test_supervisor)."""

import subprocess
import sys

import pytest

from coupon.runtime import gc_tuning as garbage
from tests.e2e.deployment import ROOT, embedded

TOLD = "print(gc.get_freeze_count(), gc.get_threshold()[0])"
WORKER = f"""
import gc
import worker
from coupon.worker.worker import Worker
Worker.run = lambda *_: {TOLD}
worker.main([])
"""
CLI = f"""
import gc
from coupon.cli.context import session
with session(initialize=True):
    {TOLD}
"""


@pytest.mark.parametrize("program", [WORKER, CLI])
def test_the_garbage_collector_does_not_go_through_what_was_loaded(program, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=embedded(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    frozen, threshold = map(int, ran.stdout.split())
    assert frozen > 10_000
    assert threshold == garbage.MANY
