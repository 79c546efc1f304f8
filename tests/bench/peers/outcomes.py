"""Requests of wrk whose outcomes are told apart: a 202 is accepted, a 200 is applied."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FAILED_MAX = 0.001
SCRIPT = """
local codes, place, threads = {{}}, 0, {{}}
for code in io.lines("{file}") do codes[#codes + 1] = code end
wrk.headers["Content-Type"] = "application/json"
{headers}
function setup(thread) threads[#threads + 1] = thread end
function init(_) applied, accepted, refused = 0, 0, 0 end
function request()
  place = place + 1
  local code = codes[(place - 1) % #codes + 1]
  return wrk.format("PUT", "{path}", nil, '{{"couponCode": "' .. code .. '", "userId": "u' .. place .. '"}}')
end
function response(status)
  if status == 200 then applied = applied + 1
  elseif status == 202 then accepted = accepted + 1
  else refused = refused + 1 end
end
function done(summary, latency, _)
  local sums = {{0, 0, 0}}
  for _, thread in ipairs(threads) do
    sums[1], sums[2] = sums[1] + thread:get("applied"), sums[2] + thread:get("accepted")
    sums[3] = sums[3] + thread:get("refused")
  end
  local e = summary.errors
  io.stderr:write(string.format('[%d, %d, %d, %d, %d, %d, %d]\\n', sums[1], sums[2], sums[3],
    e.connect + e.read + e.write + e.timeout, summary.duration, latency:percentile(50), latency:percentile(99)))
end
"""


class Outcomes(NamedTuple):
    """Answers by what they tell, in a time, and latencies in milliseconds."""

    applied: int
    accepted: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def answers(self) -> int:
        return self.applied + self.accepted


def outcomes(
    url: str,
    path: str,
    codes: Sequence[str],
    folder: Path,
    connections: int,
    seconds: int,
    headers: Mapping[str, str],
    failed_max: float = FAILED_MAX,
) -> Outcomes:
    """Send a command for each of the codes, which have to be enough. But for that share, all answers are good."""
    (folder / "codes.txt").write_text("\n".join(codes) + "\n")
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    script = folder / "outcomes.lua"
    script.write_text(SCRIPT.format(file=folder / "codes.txt", headers=lines, path=path))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script), url]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    applied, accepted, refused, failed, us, p50, p99 = json.loads(ran.stderr.splitlines()[-1])
    answers = applied + accepted + refused
    assert answers <= len(codes), f"{answers} requests for {len(codes)} coupons"
    assert refused + failed <= failed_max * answers, f"{refused} refused and {failed} failed of {answers}"
    return Outcomes(applied, accepted, us / 1e6, p50 / 1e3, p99 / 1e3)
