"""What tests of object stores share: a store on the loopback interface, and a way to it that
breaks as it is told.
"""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = str
"""What becomes of a request: "500", "503", "cut" (half of the answer), "gone" (no answer)."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Store:
    """A store at host:port. `requests`: method and path of all so far, as the way to it saw them.
    `fault`: asked before each request, with its method and path.
    """

    host: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Callable[[str, str], Fault | None] = lambda _method, _path: None

    def uri(self, place: str, keys: str = "KEY:SECRET@") -> str:
        options = f"endpoint_override={self.host}&scheme=http&region=us-east-1"
        return f"s3://{keys}{place}?{options}"

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.request(method, path, body)
        content = connection.getresponse().read()
        connection.close()
        return content


@contextmanager
def store(bucket: str) -> Iterator[Store]:
    """moto's server with an empty bucket, and the way to it in front."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    way = ThreadingHTTPServer(("127.0.0.1", 0), _Way)
    way.daemon_threads = True
    found = Store(f"127.0.0.1:{way.server_address[1]}")
    way.behind, way.store = f"{host}:{port}", found  # type: ignore[attr-defined]
    threading.Thread(target=way.serve_forever, daemon=True).start()
    try:
        found.ask("POST", "/moto-api/reset", b"")
        found.ask("PUT", f"/{bucket}", b"")
        yield found
    finally:
        way.shutdown()
        way.server_close()
        server.stop()


class _Way(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        server: Any = self.server
        store: Store = server.store
        body = self._body()
        store.requests.append((self.command, self.path))
        fault = store.fault(self.command, self.path)
        if fault == "gone":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault is not None and fault.isdigit():
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        there = http.client.HTTPConnection(server.behind, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
        headers["Content-Length"] = str(len(body))
        there.request(self.command, self.path, body, headers)
        answer = there.getresponse()
        content = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for key, value in answer.getheaders():
            if key.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(key, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        there.close()
        if fault == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # answered by `handle_expect_100` already
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, *_: Any) -> None:
        pass
