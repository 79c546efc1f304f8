"""What is taken out of the source."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """``text`` of ``file`` is replaced by ``other``, so what the guard keeps out is in.

    ``test`` names the test that misses the guard where the simulation does not.
    """

    guard: str
    file: str
    text: str
    other: str
    test: str = ""
