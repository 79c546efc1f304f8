"""The configuration of gunicorn, for ``conf/gunicorn.conf.py`` and for ``coupon web``.

Its settings are environment variables, which docs/settings.md explains. It uses threads, because a request mostly waits
for the queue's acknowledgement, and the threads of a process share one producer, which batches their messages.
"""

import os
import shutil
import socket
import sys
from typing import Any

import structlog

from coupon.domain.errors import ConfigurationError
from coupon.runtime import logs, metrics_folder, server_settings
from coupon.runtime import settings as service_settings
from coupon.runtime.gc_tuning import tune_gc
from coupon.runtime.metrics_folder import MetricsFolder
from coupon.runtime.umask import make_files_private
from coupon.runtime.worker_registry import package_version
from coupon.web.exposure import check_start

APP_LOAD_ERROR = 4  # as in coupon/web/wsgi.py

make_files_private()
try:
    settings = server_settings.load()
except ConfigurationError as error:
    print(error, file=sys.stderr)
    sys.exit(APP_LOAD_ERROR)

bind = f"{settings.host}:{settings.port}"
workers = settings.processes
worker_class = "coupon.web.gunicorn_worker.KeepAliveThreadWorker"  # gthread with fewer hand-overs between threads
threads = settings.threads
preload_app = False  # clients of Kafka and SQLite do not survive a fork: each process makes its own

timeout = 60  # seconds of silence after which a process is killed; the longest request is Prefer: wait=30
graceful_timeout = 10  # seconds for requests under way at SIGTERM
keepalive = 15  # seconds an idle connection stays: longer than a busy client's pauses
worker_connections = 2000  # of a process: beyond it the slowest make room (coupon/web/slow_clients.py)

limit_request_line = 4094  # bytes; the body's limit is COUPON_MAX_BODY_BYTES
limit_request_fields = 50
limit_request_field_size = 8190

accesslog = None  # the application logs accepted commands itself; "-" shows every request
errorlog = "-"
logger_class = "coupon.web.gunicorn_logger.GunicornLogger"  # one JSON object a line, unless COUPON_LOG_FORMAT=text
forwarded_allow_ips = ""  # no header of a request says who asks, or by which address or scheme: also not from loopback
forwarder_headers = ""
umask = 0o007  # of a socket in the file system, which gunicorn otherwise makes for everybody on the machine
control_socket_disable = True  # it wants a home directory, and nobody here talks to it
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - signs of life, never waiting for a disk

# With WEB_PIN_CPU=1 and a process for each CPU, each process keeps to its own. A Python process uses one CPU at a time
# anyway, and threads that wake each other across CPUs cost twice as much (docs/performance-diary.md).
cpus = sorted(os.sched_getaffinity(0)) if settings.pin_cpu and hasattr(os, "sched_getaffinity") else []


def on_starting(server: Any) -> None:
    """In the master, before it listens: check who can reach the service, and make the folder of the metrics."""
    try:
        loaded = service_settings.load()
        logs.configure(loaded.log_level, loaded.log_format)
        check_start(loaded, server.cfg.address)
        server.metrics_dir = metrics_folder.make(settings.metrics_dir or worker_tmp_dir)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(APP_LOAD_ERROR)
    except OSError as error:
        print(f"WEB_METRICS_DIR={settings.metrics_dir!r}: no folder can be made there ({error})", file=sys.stderr)
        sys.exit(APP_LOAD_ERROR)


def on_exit(server: Any) -> None:
    """In the master, after all processes have ended."""
    shutil.rmtree(server.metrics_dir, ignore_errors=True)


def pre_fork(server: Any, worker: Any) -> None:
    """In the master: choose the CPU that the fewest living processes have."""
    taken = [other.cpu for other in server.WORKERS.values()]
    worker.cpu = min(cpus, key=taken.count, default=None)


def post_fork(server: Any, worker: Any) -> None:
    """In the new process: keep to that CPU, and hand the metrics over."""
    MetricsFolder.of_process = MetricsFolder(server.metrics_dir)
    if 1 < len(cpus) <= workers:
        os.sched_setaffinity(0, {worker.cpu})


def post_worker_init(worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """In the new process, once it has loaded the application."""
    tune_gc()
    structlog.get_logger("coupon.web").info("started", version=package_version(), host=socket.gethostname())
    if MetricsFolder.of_process is not None:
        MetricsFolder.of_process.keep_handing_over()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """In a process that ends by itself."""
    if MetricsFolder.of_process is not None:
        MetricsFolder.of_process.hand_over()


def child_exit(server: Any, worker: Any) -> None:
    """In the master: a process has ended, however that came."""
    metrics_folder.end(server.metrics_dir, worker.pid)
