"""Gunicorn's own lines, in the format of all others."""

from typing import Any

from gunicorn.glogging import Logger

from coupon.runtime.logs import JsonFormatter
from coupon.runtime.settings import log_format


class GunicornLogger(Logger):  # type: ignore[misc]
    """``logger_class = "coupon.web.gunicorn_logger.GunicornLogger"``."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        if log_format() == "json":
            for handler in (*self.error_log.handlers, *self.access_log.handlers):
                handler.setFormatter(JsonFormatter())
