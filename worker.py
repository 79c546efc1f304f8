#!/usr/bin/env python3
"""The worker: ``python worker.py [--topics commands,reindex]``. Applies what is queued until it is told to stop.

Exit status: 0 after SIGTERM or SIGINT, 1 when going on would do harm, 2 for a configuration that cannot work.
"""

import signal
import sys
import threading

import click
import structlog

from coupon.domain.errors import ConfigurationError, DeploymentError
from coupon.domain.topics import work_topics
from coupon.runtime import logs, settings
from coupon.runtime.gc_tuning import tune_gc
from coupon.runtime.wiring import open_backends
from coupon.worker.worker import Worker, join

log = structlog.get_logger("coupon.worker")


@click.command()
@click.option("--topics", default="", help="Only these, separated by commas (default: all commands, and reindex).")
def main(topics: str) -> None:
    """Apply what is queued until SIGTERM: then finish and commit the part in flight, and leave the group."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        configuration = settings.load()
        chosen = _chosen(topics, configuration.topics)
        backends = open_backends(configuration)
    except ConfigurationError as error:
        sys.stderr.write(f"worker.py: {error}\n")
        sys.exit(2)
    logs.configure(configuration.log_level, configuration.log_format)
    worker = Worker(backends, configuration, join(backends, configuration, chosen), chosen)
    tune_gc()
    log.info("started", topics=chosen or "all")
    try:
        worker.run(stop)
    except DeploymentError as error:
        log.critical("stopped", error=str(error))
        sys.exit(1)
    finally:
        backends.close()
    log.info("stopped")


def _chosen(topics: str, layout: str) -> list[str]:
    chosen = [topic for topic in topics.split(",") if topic]
    known = work_topics(layout)
    for topic in chosen:
        if topic not in known:
            raise ConfigurationError(f"--topics {topic!r} is not a topic of this layout: {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    main()
