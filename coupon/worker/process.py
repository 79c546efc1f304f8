"""A worker as a process: for ``worker.py`` in a checkout, and for ``coupon worker``.

Exit status: 0 after SIGTERM or SIGINT, 1 when going on would do harm, 2 for a configuration that cannot work.
"""

import signal
import socket
import threading

import structlog

from coupon.domain.errors import ConfigurationError, DeploymentError
from coupon.domain.topics import work_topics
from coupon.runtime import logs
from coupon.runtime.gc_tuning import tune_gc
from coupon.runtime.measured_backends import measure_backends
from coupon.runtime.metrics import PROCESSES
from coupon.runtime.settings import Settings
from coupon.runtime.umask import make_files_private
from coupon.runtime.wiring import open_backends
from coupon.runtime.worker_registry import package_version
from coupon.worker import metrics_server
from coupon.worker.worker import Worker, join

log = structlog.get_logger("coupon.worker")


def stop_at_signals() -> threading.Event:
    """Set at SIGTERM and SIGINT, from now on."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def run(settings: Settings, topics: str, stop: threading.Event) -> int:
    """Apply what is queued in the topics, all when there is none, until ``stop`` is set. Returns the exit status;
    raises ConfigurationError."""
    make_files_private()
    chosen = _chosen(topics, settings.topics)
    address = metrics_server.Address.parse(settings.worker_metrics) if settings.worker_metrics else None
    backends = measure_backends(open_backends(settings))
    logs.configure(settings.log_level, settings.log_format)
    worker = Worker(backends, settings, join(backends, settings, chosen), chosen)
    tune_gc()
    PROCESSES.set(1, "worker", package_version())
    if address is not None:
        metrics_server.serve(address)
    log.info("started", topics=chosen or "all", version=package_version(), host=socket.gethostname())
    try:
        worker.run(stop)
    except DeploymentError as error:
        log.critical("stopped", error=str(error))
        return 1
    finally:
        backends.close()
    log.info("stopped")
    return 0


def _chosen(topics: str, layout: str) -> list[str]:
    chosen = [topic for topic in topics.split(",") if topic]
    known = work_topics(layout)
    for topic in chosen:
        if topic not in known:
            raise ConfigurationError(f"--topics {topic!r} is not a topic of this layout: {', '.join(known)}")
    return chosen
