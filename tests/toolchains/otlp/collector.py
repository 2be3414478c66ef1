"""Takes spans over OTLP, by the published definitions of the protocol, and prints each request as a line of JSON.

collector.py PORT BUSY: the first BUSY requests are answered 503. The first line is the port.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def check_known(message):
    """Fails if the message has a field that the definitions do not have."""
    unknown = UnknownFieldSet(message)
    assert len(unknown) == 0, f"unknown fields in {type(message).__name__}: {list(unknown)}"
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if not hasattr(value, "ListFields") else [value]:
                check_known(part)


def values(attributes):
    found = {}
    for pair in attributes:
        assert pair.key not in found, f"{pair.key} is given twice"
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
    return found


def spans(request):
    for of_resource in request.resource_spans:
        resource = values(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                assert len(span.trace_id) == 16 and len(span.span_id) == 8
                assert len(span.parent_span_id) in (0, 8)
                assert span.start_time_unix_nano <= span.end_time_unix_nano
                yield {
                    "resource": resource,
                    "scope": of_scope.scope.name,
                    "schema": of_scope.schema_url,
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "state": span.trace_state,
                    "nanoseconds": span.end_time_unix_nano - span.start_time_unix_nano,
                    "attributes": values(span.attributes),
                    "links": [
                        {"trace": link.trace_id.hex(), "span": link.span_id.hex(), "attributes": values(link.attributes)}
                        for link in span.links
                    ],
                    "status": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                    "error": span.status.message,
                }


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    busy = int(sys.argv[2])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if Collector.busy > 0:
            Collector.busy -= 1
            self.answer(503, b"")
            return
        request = ExportTraceServiceRequest.FromString(body)
        check_known(request)
        assert self.headers["content-type"] == "application/x-protobuf", self.headers
        say({"path": self.path, "headers": dict(self.headers), "spans": list(spans(request))})
        self.answer(200, ExportTraceServiceResponse().SerializeToString())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def say(what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Collector)
    say(server.server_address[1])
    server.serve_forever()
