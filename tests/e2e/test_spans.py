"""Spans that a collector gets: those of a request, and of the command that a worker applied for it."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.e2e.deployment import Deployment, embedded, eventually

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """``spans`` has (service, span) of all that was sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        sent = trace_service.ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            (service,) = [it.value.string_value for it in resource.resource.attributes if it.key == "service.name"]
            self.server.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_command_is_one_trace_from_the_request_to_the_worker(tmp_path, collector):
    environ = embedded(tmp_path) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with Deployment(environ, web=1) as service:
        (code,) = service.create(1)
        answer = service.put("issue", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}, couponCode=code, userId="ann")
        assert answer.status_code == 202
        eventually(lambda: len(of_trace(collector)) == 2, 20)
    (web, request), (worker, applied) = sorted(of_trace(collector), key=lambda each: each[0])
    assert (web, request.name, request.parent_span_id.hex()) == ("coupon-web", "PUT", SPAN)
    assert (worker, applied.name, applied.parent_span_id) == ("coupon-worker", "apply", request.span_id)
    told = {it.key: it.value.string_value or it.value.int_value for it in request.attributes}
    assert told == {"http.request.method": "PUT", "http.response.status_code": 202}
    assert applied.start_time_unix_nano <= applied.end_time_unix_nano
    assert "apply" in {span.name for service, span in collector.spans if span.trace_id.hex() != TRACE}  # the creation


def of_trace(collector):
    return [(service, span) for service, span in collector.spans if span.trace_id.hex() == TRACE]


def test_a_collector_that_is_away_costs_no_command(tmp_path):
    environ = embedded(tmp_path) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with Deployment(environ, web=1) as service:
        (code,) = service.create(1)
        assert service.put("issue", couponCode=code, userId="ann").status_code == 202
        eventually(lambda: service.get(f"/v1/coupons/{code}").json()["issued"], 20)
