"""The thread that keeps a member of a SQLite group."""

import time
from types import SimpleNamespace

from backends.queue.sqlite_group import Renewer


def test_whoever_stops_it_has_no_thread_in_sqlite_left_that_a_fork_could_meet():
    file = SimpleNamespace(close=lambda: time.sleep(0.1))
    renewer = Renewer(file, SimpleNamespace(lease_s=30.0))
    renewer.start()
    renewer.stop()
    assert not renewer.is_alive()
