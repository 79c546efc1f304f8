"""The metrics of the service, for Prometheus: those of all processes of this server, and what is asked for."""

from flask import Response

from coupon.runtime import metrics_text
from coupon.runtime.instruments import numbers
from coupon.runtime.metrics_folder import MetricsFolder
from coupon.web.services import Services


def get_metrics(services: Services) -> Response:
    """Metrics, for Prometheus"""
    folder = MetricsFolder.of_process
    counted = numbers() if folder is None else folder.read()
    text = metrics_text.text(counted, services.questions.get() or metrics_text.NOTHING)
    return Response(text, content_type=metrics_text.CONTENT_TYPE)
