"""The table of a run, as Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from tests.proof.chaos.result import Result

SHOWN = 50
"""Of the violations; all of them are in ``violations.txt``."""
Times = Sequence[tuple[float | None, float | None]]


def markdown(result: Result) -> str:
    """All of the report."""
    return "\n".join([*_head(result), *_faults(result), *_commands(result), *_verdict(result)]) + "\n"


def _head(result: Result) -> Iterable[str]:
    options = result.options
    yield f"# Chaos, seed {options.seed}"
    yield ""
    yield from _table(
        ("what", "how much"),
        [
            ("faults were injected for", f"{result.seconds / 60:.1f} min"),
            ("servers", ", ".join(options.servers.names)),
            ("clients", f"{options.clients}" + (f", at most {options.rate} commands/s" if options.rate else "")),
            ("commands accepted", f"{result.commands:,} ({result.commands / max(result.seconds, 1):.0f}/s)"),
            ("faults", f"{sum(result.faults.values()):,}"),
            ("largest lag seen", f"{result.lag_max:,} messages"),
            ("lag at the end", f"{result.lag} after {result.drained_s:.1f} s"),
            ("search equal to the store", _seconds(result.converged_s, "never", " s after that")),
            ("**violations**", f"**{len(result.violations)}**"),
        ],
    )


def _faults(result: Result) -> Iterable[str]:
    yield "## Faults, and the time to recover"
    yield ""
    yield "From the end of the fault (started again and ready, continued, healed) to the first command accepted and to"
    yield "the first applied, whatever other faults there were meanwhile; median and longest, in seconds. Never:"
    yield "not until the run ended."
    yield ""
    rows = [(name, str(len(times)), _never(times), *_times(times)) for name, times in sorted(result.recovery.items())]
    yield from _table(("fault", "times", "never", "accepted", "longest", "applied", "longest"), rows)
    links = {name: number for name, number in result.faults.items() if name.split()[-1].startswith(("web-", "worker-"))}
    if links:
        yield "Links:"
        yield ""
        yield from _counts("fault", links)
    if result.links:
        yield from _counts("link (of both directions the fewer bytes)", result.links)
    if result.late:
        yield "Requests that were answered too late (after 10 s, and what they asked to wait), or not at all, by the"
        yield "fault that excuses it:"
        yield ""
        yield from _counts("fault", result.late)
    if result.edge:
        yield "At the edge of the drivers:"
        yield ""
        yield from _counts("fault", result.edge)


def _commands(result: Result) -> Iterable[str]:
    yield "## Commands"
    yield ""
    rows = [(kind, f"{sent:,}", f"{result.accepted.get(kind, 0):,}") for kind, sent in sorted(result.sent.items())]
    yield from _table(("requests", "sent", "accepted"), rows)
    yield from _counts("answer (0: none)", result.answers)
    yield from _counts("outcome, as the store tells it", result.outcomes)
    yield from _counts("records checked", result.checked)


def _verdict(result: Result) -> Iterable[str]:
    yield f"## Violations: {len(result.violations)}"
    yield ""
    yield from (f"Not judged, for want of records: {what}.\n" for what in result.unjudged)
    if result.violations:
        promises = [promise for promise, _ in result.violations]
        yield from _counts("promise", {promise: promises.count(promise) for promise in promises})
        yield from (f"- {promise}: {what[:500]}" for promise, what in result.violations[:SHOWN])


def _counts(title: str, counts: Mapping[str, int]) -> Iterable[str]:
    yield from _table((title, "number"), [(name, f"{number:,}") for name, number in sorted(counts.items())])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' if n == 0 else '---:' for n in range(len(heads)))} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _never(times: Times) -> str:
    return str(sum(None in found for found in times))


def _times(times: Times) -> Iterable[str]:
    for found in zip(*times, strict=True):
        known = [seconds for seconds in found if seconds is not None]
        yield _seconds(statistics.median(known) if known else None)
        yield _seconds(max(known, default=None))


def _seconds(seconds: float | None, without: str = "–", unit: str = "") -> str:
    return without if seconds is None else f"{seconds:.1f}{unit}"
