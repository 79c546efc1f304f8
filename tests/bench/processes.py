"""Commands of the CLI as processes of their own, and what they took."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.e2e.deployment import ROOT, rss_peak_mb

FLAT = 1.25
"""So much more memory than a part of the work takes is still flat: allocators do not give all back."""
LOOK_S = 0.02


class Taken(NamedTuple):
    """By the clock, of CPU, and the most memory."""

    seconds: float
    cpu_s: float
    peak_mb: float


def coupon(environ: Mapping[str, str], *arguments: str) -> Taken:
    """Run the CLI to its end; what it says goes nowhere."""
    command = [str(Path(sys.executable).parent / "coupon"), *arguments]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
    peak_mb = 0.0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        peak_mb = rss_peak_mb(process.pid) or peak_mb
        time.sleep(LOOK_S)
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    assert process.returncode == 0, arguments
    usage = ended[2]
    return Taken(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, peak_mb)
