"""A publisher's HTTP server on this machine, and the ways in which servers misbehave."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file of the server's, and how it misbehaves."""

    data: bytes
    etag: str = '"one"'
    headers: dict[str, str] = field(default_factory=dict)
    errors: list[int] = field(default_factory=list)
    """Statuses that the first requests get."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the connection ends, for the first requests that get a body."""
    stall: threading.Event | None = None
    """What a request waits for after half of its body."""
    heeds_range: bool = True
    heeds_if_range: bool = True
    moved_to: str = ""


@dataclass
class Asked:
    """A request and the status of its answer."""

    path: str
    range: str
    authorization: str
    status: int


class Publisher:
    """An HTTP server in a thread."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.log: list[Asked] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def handler(publisher: Publisher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            served = publisher.files.get(self.path)
            asked = Asked(self.path, self.headers.get("Range", ""), self.headers.get("Authorization", ""), 404)
            publisher.log.append(asked)
            if served is None or served.errors:
                asked.status = served.errors.pop(0) if served else 404
                self.reply(asked.status, {"Content-Length": "0", **(served.headers if served else {})})
                return
            if served.moved_to:
                asked.status = 302
                self.reply(302, {"Location": served.moved_to, "Content-Length": "0", **served.headers})
                return
            start = int(asked.range[6:-1] or 0) if served.heeds_range else 0
            if served.heeds_if_range and self.headers.get("If-Range", served.etag) != served.etag:
                start = 0
            headers = {"ETag": served.etag, **served.headers} if served.etag else dict(served.headers)
            if start and start >= len(served.data):
                asked.status = 416
                self.reply(416, {"Content-Length": "0"})
                return
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(served.data) - 1}/{len(served.data)}"
            asked.status = 206 if start else 200
            body = served.data[start:]
            self.reply(asked.status, {"Content-Length": str(len(body)), **headers})
            if served.cuts:
                self.wfile.write(body[: served.cuts.pop(0)])
                self.close_connection = True
            elif served.stall:
                self.wfile.write(body[: len(body) // 2])
                served.stall.wait()
                self.close_connection = True
            else:
                self.wfile.write(body)

        def reply(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # the client hung up

    return Handler
