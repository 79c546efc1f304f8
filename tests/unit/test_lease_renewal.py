"""The thread that keeps a member of a group."""

import time

from backends.queue.membership import Renewer


def test_whoever_stops_it_has_no_thread_in_sqlite_left_that_a_fork_could_meet():
    renewer = Renewer(30.0, renew=lambda: None, close=lambda: time.sleep(0.1))
    renewer.start()
    renewer.stop()
    assert not renewer.is_alive()
