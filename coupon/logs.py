"""Structured logs on standard error: one JSON object a line, or text for people (``COUPON_LOG_FORMAT``)."""

import logging
import sys

import structlog

DRIVERS = ("kafka", "elastic_transport", "elasticsearch", "botocore", "pynamodb", "urllib3")


def configure(level: str, form: str) -> None:
    """Set up logging of this process. Drivers repeat what our own warnings say: only their errors are shown."""
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(levelname)s %(name)s %(message)s")
    for driver in DRIVERS:
        logging.getLogger(driver).setLevel(logging.CRITICAL)
