"""The verdict on what operations' addresses answered: accepted, then applied or rejected, and never anything else."""

from collections.abc import Callable, Iterable, Iterator

from tests.proof.lineage import Violation
from tests.proof.record import Observed

NEVER_FLIP = "outcomes never flip"
AFTER = {
    "accepted": {"accepted", "applied", "rejected", "forgotten"},
    "applied": {"applied", "forgotten"},
    "rejected": {"rejected", "forgotten"},
    "forgotten": {"forgotten"},
}
"""What an address may answer after it has answered something."""


def outcomes_never_flip(observed: Iterable[Observed], by_another: Callable[[str], bool]) -> Iterator[Violation]:
    """Of two answers of one address, one of which was there before the other was asked for, the later follows.

    There is one excuse: an attempt that was rejected counts as applied when its operation was sent again, and that
    attempt was applied (``by_another``). The client wants to know of his command.
    """
    by_address: dict[str, list[Observed]] = {}
    for seen in observed:
        by_address.setdefault(seen.address, []).append(seen)
    for answers in by_address.values():
        ended = sorted(answers, key=lambda seen: seen.ended)
        known: list[Observed] = []
        for seen in sorted(answers, key=lambda seen: seen.sent):
            while ended and ended[0].ended < seen.sent:
                known.append(ended.pop(0))
            before = next((other for other in known if not _follows(other, seen, by_another)), None)
            if before is not None:
                yield Violation(NEVER_FLIP, f"{before} was seen, then {seen}")
                break


def _follows(before: Observed, after: Observed, by_another: Callable[[str], bool]) -> bool:
    if (before.status, after.status) == ("rejected", "applied"):
        return by_another(after.address)
    return after.status in AFTER[before.status]
