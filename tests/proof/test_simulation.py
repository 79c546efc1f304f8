"""Simulated runs: no promise is broken, a seed replays exactly, and the judge is no rubber stamp."""

import os
import re
import subprocess
import sys

from tests.e2e.deployment import ROOT

PROCESS = re.compile(r"^\d+ s$|worker:|'workers'")
"""What the run took, and signs of life, which hold the number of the process."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.proof.simulation", *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COUPON_")}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)


def test_300_seeds_break_no_promise():
    ran = simulate("--seeds", "300")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "300 seeds, 0 broke a promise" in ran.stdout


def test_a_seed_replays_exactly():
    one, other = (
        [line for line in simulate("--seed", "7").stdout.splitlines() if not PROCESS.search(line)] for _ in "12"
    )
    assert len(one) > 100
    assert one == other
