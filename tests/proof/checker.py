"""The verdict on a run: which promises the records of it break."""

from typing import NamedTuple

from tests.proof.record import Evidence


class Violation(NamedTuple):
    """A promise that was broken, and what shows it."""

    promise: str
    what: str


def violations(evidence: Evidence) -> list[Violation]:
    """Empty when all promises of ``docs/reliability.md`` held."""
    raise NotImplementedError
