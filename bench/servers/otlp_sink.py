"""An OpenTelemetry collector that takes everything and keeps nothing, by HTTP on the port of its argument."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink(BaseHTTPRequestHandler):
    """Answers each export with an empty body, which is an empty message of protobuf."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing is logged."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
