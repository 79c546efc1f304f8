"""What every backend must do, whatever its role: part of the contract of each."""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any, ClassVar

import pytest

from backends.testing.forking import in_a_fork
from coupon.domain.errors import ConfigurationError
from coupon.ports.backend import Backend
from coupon.runtime.wiring import open_backend

IO = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto", "socket.sendmsg"}
IO |= {"sqlite3.connect", "os.mkdir", "subprocess.Popen"}
"""The events of Python that are I/O. An ``open`` is, too, when it is to write."""


class BackendContract:
    role: ClassVar[type[Backend]]
    CALLS: ClassVar[Mapping[str, Callable[[Any], Any]]]
    """A call of each method that asks the server, by the method's name."""

    @pytest.fixture
    def backend(self, request: pytest.FixtureRequest) -> Any:
        """The one of the role's own fixture, in which all is made that it needs."""
        return request.getfixturevalue(self.role.__name__.lower())

    @pytest.fixture
    def gone_url(self) -> str:
        raise NotImplementedError("the address of one of the same kind whose server does not answer")

    @pytest.mark.parametrize("there", [True, False], ids=["there", "gone"])
    def test_opening_does_no_io_and_starts_no_thread(self, request: pytest.FixtureRequest, there: bool) -> None:
        """A driver in C is found by what it leaves open."""
        url = request.getfixturevalue("url" if there else "gone_url")
        open_backend(self.role, url).close()  # imports what it needs
        in_a_fork(lambda: _open_without_io(self.role, url))

    @pytest.mark.usefixtures("backend")
    def test_one_that_was_made_before_a_fork_is_used_on_both_sides_of_it(self, url: str) -> None:
        with closing(open_backend(self.role, url)) as unused:
            in_a_fork(unused.ping)
            unused.ping()

    def test_an_unknown_option_is_an_error_of_configuration(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="no_such_option"):
            open_backend(self.role, f"{url}{'&' if '?' in url else '?'}no_such_option=1")


def _open_without_io(role: type[Backend], url: str) -> None:
    """Ends the process that calls it with a hook that cannot be taken out again."""
    events: list[str] = []
    sys.addaudithook(lambda event, arguments: events.append(event) if _is_io(event, arguments) else None)
    files, threads = _open_files(), threading.active_count()
    open_backend(role, url)
    done = [*events]
    assert done == [], f"{url}: from_url or __init__ does I/O: {', '.join(done)}"
    left = sorted(_open_files() - files)
    assert left == [], f"{url}: from_url or __init__ opens {', '.join(left)}"
    assert threading.active_count() == threads, f"{url}: from_url or __init__ starts a thread, which no child has"


def _is_io(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2] or 0
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in IO


def _open_files() -> set[str]:
    """The sockets and files that this process has open; none where the system does not tell."""
    found = set()
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with suppress(OSError):  # that of the list itself
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in found if name.startswith("socket:") or os.path.isfile(name)}
