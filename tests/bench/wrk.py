"""wrk: a load from another process, which answers what rate and what latencies it saw."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 32
SECONDS = 5
FAILED_MAX = 0.001
DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.stderr:write(string.format('{"requests": %d, "us": %d, "failed": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


COUNT_STATUSES = """
seen = {}
response = function(status) seen[status] = (seen[status] or 0) + 1 end
local first
setup = function(thread) first = thread end
done = function()
  local parts = {}
  for status, number in pairs(first:get("seen")) do
    parts[#parts + 1] = string.format('"%d": %d', status, number)
  end
  io.stderr:write("{", table.concat(parts, ", "), "}\\n")
end
"""


class Load(NamedTuple):
    """Answers, answers a second, and latencies in milliseconds."""

    answers: int
    rate: float
    p50_ms: float
    p99_ms: float


def load(
    url: str, script: str = "", seconds: int = SECONDS, folder: Path = Path("/tmp"), failed_max: float = FAILED_MAX
) -> Load:
    """``wrk -t1 -c32``. A rate of refusals is none: but ``failed_max``, all answers have to be good (2xx, 3xx)."""
    assert shutil.which("wrk"), "wrk is missing; on Debian: apt-get install wrk"
    file = folder / "load.lua"
    file.write_text(script + DONE)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", str(file), url]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    found = json.loads(ran.stderr.splitlines()[-1])
    failed = found["failed"] / found["requests"]
    assert failed <= failed_max, f"{found['failed']} of {found['requests']} requests failed"
    return Load(found["requests"], found["requests"] / found["us"] * 1e6, found["p50"] / 1e3, found["p99"] / 1e3)


@contextmanager
def beside_load(url: str, script: str, seconds: float, folder: Path, key: str) -> Iterator[Counter[int]]:
    """As many connections, with an API key, whatever they are answered: afterwards the counter has the statuses."""
    file, statuses = folder / "load.lua", Counter[int]()
    file.write_text(f'wrk.headers["Authorization"] = "Bearer {key}"\n{script}{COUNT_STATUSES}')
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--timeout", "10s", "-s", str(file), url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as ran:
        yield statuses
        _, told = ran.communicate(timeout=seconds + 60)
    statuses.update({int(status): number for status, number in json.loads(told.splitlines()[-1]).items()})


def same(method: str, body: object) -> str:
    """A script that sends one request again and again."""
    return f"""
wrk.method = "{method}"
wrk.body = '{json.dumps(body)}'
wrk.headers["Content-Type"] = "application/json"
"""


def changes(codes: Sequence[str], commands: Sequence[str], folder: Path) -> str:
    """A script that sends the first command for each of the codes, then the second for each, and so on, round and
    round."""
    file = folder / "codes.txt"
    file.write_text("\n".join(codes) + "\n")
    return f"""
local codes, commands, place, turn = {{}}, {{{", ".join(f'"{command}"' for command in commands)}}}, 0, 1
for code in io.lines("{file}") do codes[#codes + 1] = code end
wrk.headers["Content-Type"] = "application/json"
request = function()
  place = place + 1
  if place > #codes then place, turn = 1, turn % #commands + 1 end
  local user = commands[turn] == "issue" and ', "userId": "ann"' or ""
  local body = '{{"couponCode": "' .. codes[place] .. '"' .. user .. '}}'
  return wrk.format("PUT", "/v1/coupons/" .. commands[turn], nil, body)
end
"""


def paths(paths: Sequence[str], folder: Path) -> str:
    """A script that gets the paths one after the other, round and round."""
    file = folder / "paths.txt"
    file.write_text("\n".join(paths) + "\n")
    return f"""
local paths, place = {{}}, 0
for path in io.lines("{file}") do paths[#paths + 1] = path end
request = function()
  place = place % #paths + 1
  return wrk.format("GET", paths[place])
end
"""


def bodies(path: str, bodies: Sequence[str], folder: Path) -> str:
    """A script that posts the bodies, of JSON without line breaks, one after the other, round and round."""
    file = folder / "bodies.txt"
    file.write_text("\n".join(bodies) + "\n")
    return f"""
local bodies, place = {{}}, 0
for body in io.lines("{file}") do bodies[#bodies + 1] = body end
wrk.headers["Content-Type"] = "application/json"
request = function()
  place = place % #bodies + 1
  return wrk.format("POST", "{path}", nil, bodies[place])
end
"""
