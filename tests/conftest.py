"""What all tests share: the real servers (``tests/services.py``), and a plain word about those that were not there."""

import signal
import ssl
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from coupon.ports import group_commit
from tests.certificates import Certificate
from tests.group_clock import GroupClock
from tests.services import Services
from tests.swallowed import ErrorLog

hypothesis.settings.register_profile("any machine", deadline=None)  # no test fails because another program runs
hypothesis.settings.load_profile("any machine")

SERVICES = pytest.StashKey[Services]()
ERRORS = ErrorLog()


def pytest_configure() -> None:
    """A terminal that is closed (SIGHUP) and SIGTERM end a run as Ctrl-C does: what the tests started ends, too. Under
    ``nohup`` SIGHUP stays ignored."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


@pytest.fixture(scope="session")
def services(pytestconfig: pytest.Config) -> Iterator[Services]:
    """``services.kafka``, ``.dynamodb``, ``.elasticsearch``, ``.memcached``, ``.mongodb``: ``host:port``, started at
    first use."""
    services = pytestconfig.stash[SERVICES] = Services(lambda sentence: _say(pytestconfig, sentence))
    yield services
    services.close()


@pytest.fixture
def group_clock(monkeypatch: pytest.MonkeyPatch) -> GroupClock:
    """How many callers wait in the group commits of this process."""
    clock = GroupClock()
    monkeypatch.setattr(group_commit, "time", clock)
    return clock


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """The file of a certificate for 127.0.0.1, beside its key.pem, and a server's TLS with it."""
    certificate = Certificate(tmp_path)
    return certificate.path, certificate.of_a_server()


@pytest.fixture(autouse=True, scope="session")
def _logs_can_be_captured() -> None:
    """A logger that was used once would else write where it did then, in whatever order tests run."""
    configure = structlog.configure
    structlog.configure = lambda **options: configure(**options | {"cache_logger_on_first_use": False})


@pytest.fixture(autouse=True)
def _logs_are_as_at_the_start() -> None:
    """An application or a command line of an earlier test has set them as it likes."""
    structlog.reset_defaults()


@pytest.fixture(autouse=True, scope="session")
def _errors_are_seen() -> Iterator[None]:
    with ERRORS.listening():
        yield


def pytest_runtest_setup() -> None:
    ERRORS.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test in which an error was logged and swallowed fails, unless it is marked with ``logs_error(event, …)``."""
    result = yield
    expected = {event for mark in item.iter_markers("logs_error") for event in mark.args}
    if unexpected := ERRORS.other_than(expected):
        pytest.fail(f"logged as an error, and no logs_error of the test expects it: {unexpected}", pytrace=False)
    return result


@pytest.fixture(autouse=True)
def _servers_are_well_after_each_test(pytestconfig: pytest.Config) -> Iterator[None]:
    yield
    if SERVICES in pytestconfig.stash:
        pytestconfig.stash[SERVICES].heal()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    missing = config.stash[SERVICES].missing if SERVICES in config.stash else {}
    if missing:
        terminalreporter.section("NOT TESTED on this machine, for want of a server", yellow=True)
        for name, reason in sorted(missing.items()):
            terminalreporter.write_line(f"{name}: {reason}")


def _say(config: pytest.Config, sentence: str) -> None:
    """To the terminal, past the capture."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"services: {sentence}")
