"""Simulated runs: no promise is broken, a seed replays exactly, and the judge is no rubber stamp."""

import os
import re
import subprocess
import sys

from tests.e2e.deployment import ROOT

SECONDS = re.compile(r"\d+ s")
"""What the run took: the last line."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.proof.simulation", *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COUPON_")}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)


def test_500_seeds_break_no_promise():
    ran = simulate("--seeds", "500")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "500 seeds, 0 broke a promise" in ran.stdout


def test_a_seed_replays_exactly():
    one, other = (
        re.sub(r'worker:[\w.-]+:[0-9]+|"pid":[0-9]+', "", simulate("--seed", "7").stdout).splitlines() for _ in range(2)
    )
    assert len(one) > 100
    assert [line for line in one if not SECONDS.fullmatch(line)] == [
        line for line in other if not SECONDS.fullmatch(line)
    ]
