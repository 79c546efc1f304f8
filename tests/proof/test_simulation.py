"""Simulated runs: no promise is broken, a seed replays exactly, and the judge is no rubber stamp."""

import os
import subprocess
import sys

from tests.e2e.deployment import ROOT


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.proof.simulation", *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COUPON_")}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)


def test_500_seeds_break_no_promise():
    ran = simulate("--seeds", "500")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "500 seeds, 0 broke a promise" in ran.stdout


def test_a_seed_replays_exactly():
    one, other = (simulate("--seed", "7").stdout.splitlines() for _ in range(2))
    assert len(one) > 100
    assert one[:-1] == other[:-1]  # all but the seconds that it took
