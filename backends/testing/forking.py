"""Work in a forked child. What it finds is told in the parent."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CHILD_MAX_S = 30
OTHERS_MAX_S = 0.3
"""How long threads of other tests may take to end. They may be at work where the child would meet their locks."""


@contextmanager
def forked(work: Callable[[], Any]) -> Iterator[None]:
    """A child does the work, beside the block. At its end AssertionError, when the child failed or took too long."""
    deadline = time.monotonic() + OTHERS_MAX_S
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join(max(0.0, deadline - time.monotonic()))
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: that is what is tested
        child = os.fork()
    if not child:
        _end(writing, work)
    os.close(writing)
    try:
        yield
    finally:
        with os.fdopen(reading) as pipe:
            failure = pipe.read()
        status = os.waitpid(child, 0)[1]
    assert failure == "", failure
    assert status == 0, f"the child was killed after {CHILD_MAX_S} s" if os.WIFSIGNALED(status) else status


def in_a_fork(work: Callable[[], Any]) -> None:
    with forked(work):
        pass


def _end(writing: int, work: Callable[[], Any]) -> None:
    """Does not return: the child ends here."""
    try:
        signal.alarm(CHILD_MAX_S)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        work()
    except BaseException as error:
        os.write(writing, (repr(error) or "failed").encode()[:4_000])
    finally:
        os._exit(0)
