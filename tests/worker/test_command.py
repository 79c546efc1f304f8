"""``python worker.py``, as far as it is not the worker's own."""

import subprocess
import sys

from coupon import garbage
from tests.e2e.deployment import ROOT, embedded

PROGRAM = """
import gc
import worker
worker.Worker.run = lambda *_: print(gc.get_freeze_count(), gc.get_threshold()[0])
worker.main([])
"""


def test_the_garbage_collector_does_not_go_through_what_a_worker_loaded(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
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
