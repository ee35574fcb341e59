"""The clouds' metadata services on this machine, as far as the agent asks them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Metadata:
    """What the services answer; a test changes it while they run."""

    def __init__(self) -> None:
        self.aws: dict[str, Any] = {}
        self.gcp = {"preempted": "FALSE", "maintenance-event": "NONE"}
        self.token = "first"
        self.down = False
        self.asked: list[str] = []


@contextmanager
def serve() -> Iterator[tuple[Metadata, str]]:
    """The services and their HOST:PORT."""
    state = Metadata()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, body: str = "") -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_PUT(self) -> None:
            state.asked.append(self.path)
            known = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            self.answer(200 if known else 404, state.token)

        def do_GET(self) -> None:
            state.asked.append(self.path)
            if state.down:
                self.answer(503)
            elif self.path.startswith("/latest/meta-data/"):
                found = state.aws.get(self.path.removeprefix("/latest/meta-data/"))
                allowed = self.headers["X-aws-ec2-metadata-token"] == state.token
                self.answer(*((200, json.dumps(found)) if allowed and found else (404 if allowed else 401, "")))
            elif self.path.startswith("/computeMetadata/v1/instance/") and self.headers["Metadata-Flavor"] == "Google":
                self.answer(200, state.gcp[self.path.rsplit("/", 1)[1]])
            else:
                self.answer(404)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state, f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
