"""Receives OpenTelemetry metrics over HTTP, as a collector would."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

Received = dict[str, list[Mapping[str, str]]]
"""The attributes of each data point, by the metric's name."""


@contextmanager
def collector() -> Iterator[tuple[dict[str, str], Received]]:
    """The variables that let Airflow send its metrics to a collector on this machine, and what that has received."""
    received: Received = defaultdict(list)

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for name, attributes in _points(ExportMetricsServiceRequest.FromString(body)):
                received[name].append(attributes)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        variables = {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}/v1/metrics",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        }
        try:
            yield variables, received
        finally:
            server.shutdown()
            thread.join()


def _points(request: ExportMetricsServiceRequest) -> Iterator[tuple[str, Mapping[str, str]]]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    yield metric.name, {one.key: one.value.string_value for one in point.attributes}
