"""Python's garbage collector, told what our processes are like: they load much that stays, and there is hardly a cycle
in what they make afterwards."""

import gc

MANY = 10_000
"""So many new objects before it looks through them. There is little to find: of a worker that had applied 50,000
commands 8,000 objects were garbage."""


def tune_gc() -> None:
    """When a process has loaded what it needs: the collector never goes through that again, while every thread waits,
    and looks at the rest more seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MANY, 10, 10)
