"""The web side's server: ``gunicorn -c conf/gunicorn.conf.py wsgi:app``.

From the environment: HOST, PORT, WEB_CONCURRENCY (processes) and WEB_THREADS (a process). Threads, because a request
mostly waits for the queue's acknowledgement, and the threads of a process share one producer, which batches them.
"""

import os
from typing import Any

from coupon.runtime.gc_tuning import tune_gc

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8080')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "coupon.web.gunicorn_worker.KeepAliveThreadWorker"  # gthread, with less handing around
threads = int(os.environ.get("WEB_THREADS", "16"))
preload_app = False  # clients of Kafka and SQLite do not survive a fork: each process makes its own

timeout = 60  # seconds of silence after which a process is killed; the longest request is Prefer: wait=30
graceful_timeout = 10  # seconds for requests under way at SIGTERM
keepalive = 15  # seconds an idle connection stays: longer than a busy client's pauses
worker_connections = 2000  # of a process: one more, and the slowest make room; how slow one may be is in slowness.py

limit_request_line = 4094  # bytes; the body's limit is COUPON_MAX_BODY_BYTES
limit_request_fields = 50
limit_request_field_size = 8190

accesslog = None  # the application logs accepted commands itself; "-" shows every request
errorlog = "-"
forwarded_allow_ips = ""  # no header of a request says who asks, or by which address or scheme: also not from loopback
forwarder_headers = ""
control_socket_disable = True  # it wants a home directory, and nobody here talks to it
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - signs of life, never waiting for a disk

# Where there is a process for each processor, each keeps to its own. A process of Python uses one at a time anyway, and
# threads that wake each other across processors take twice the CPU (docs/performance.md).
processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pre_fork(server: Any, worker: Any) -> None:
    """In the master: a processor that the fewest of the living processes have."""
    taken = [other.processor for other in server.WORKERS.values()]
    worker.processor = min(processors, key=taken.count, default=None)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """In the new process."""
    if 1 < len(processors) <= workers:
        os.sched_setaffinity(0, {worker.processor})


def post_worker_init(worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """In the new process, once it has loaded the application."""
    tune_gc()
