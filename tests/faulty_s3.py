"""A proxy before an S3 endpoint that misbehaves as it is told: errors, delays, cut bodies, dropped connections.

    with FaultyS3(endpoint) as faulty:
        faulty.fail("GET .*[.]jsonl", times=2, status=503)  # the first two such requests; then it behaves
        faulty.cut("GET .*shard", after=1000)                # 1,000 bytes of the body, then the connection ends
        ...                                                  # with AWS_ENDPOINT_URL=faulty.url
        assert [request.fault for request in faulty.requests] == ["503", "503", ""]

Rules are matched against ``METHOD /bucket/key?query`` by ``re.search``, in the order in which they were given; each
request uses up one rule at most.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

CODES = {500: "InternalError", 503: "SlowDown", 403: "AccessDenied"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


@dataclass(frozen=True)
class Request:
    """A request that came, and what was done to it: empty where it was passed on as it should be."""

    method: str
    path: str
    fault: str


@dataclass
class Rule:
    """What happens to the requests that match: ``skip`` of them pass first, then ``times`` of them suffer."""

    pattern: str
    times: float
    skip: int = 0
    status: int = 0
    after: int | None = None
    seconds: float = 0.0
    refused: bool = False

    @property
    def name(self) -> str:
        if self.status:
            return str(self.status)
        return "refused" if self.refused else "slow" if self.seconds else "cut"


@dataclass
class FaultyS3:
    """The proxy, in a thread from ``with`` on. ``times=FOREVER`` makes a fault permanent; ``clear`` ends all."""

    upstream: str
    requests: list[Request] = field(default_factory=list)
    _rules: list[Rule] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    def fail(self, pattern: str = "", *, times: float = 1, status: int = 500, skip: int = 0) -> None:
        """Answer with an error instead of passing the request on."""
        self._rules.append(Rule(pattern, times, skip, status=status))

    def cut(self, pattern: str = "^GET", *, times: float = 1, after: int = 0, skip: int = 0) -> None:
        """Let so many bytes of the body through and drop the connection: the answer's for GET, else the request's."""
        self._rules.append(Rule(pattern, times, skip, after=after))

    def slow(self, seconds: float, pattern: str = "", *, times: float = 1, skip: int = 0) -> None:
        """Pass the request on only after a while; it ends early when the proxy does."""
        self._rules.append(Rule(pattern, times, skip, seconds=seconds))

    def refuse(self, pattern: str = "", *, times: float = 1, skip: int = 0) -> None:
        """Reset the connection without an answer."""
        self._rules.append(Rule(pattern, times, skip, refused=True))

    def clear(self) -> None:
        """Behave from now on, and forget the requests."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def asked(self, pattern: str) -> list[Request]:
        """The requests that match."""
        return [one for one in list(self.requests) if re.search(pattern, f"{one.method} {one.path}")]

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}"

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the proxy's end."""
        self._ended.wait(seconds)

    def meet(self, method: str, path: str) -> Rule | None:
        """The rule that this request suffers, which is used up by it; the request is noted."""
        with self._lock:
            rule = self._next(f"{method} {path}")
            self.requests.append(Request(method, path, rule.name if rule else ""))
            return rule

    def _next(self, line: str) -> Rule | None:
        for rule in self._rules:
            if rule.times > 0 and re.search(rule.pattern, line):
                if rule.skip:
                    rule.skip -= 1
                else:
                    rule.times -= 1
                    return rule
        return None


FOREVER = float("inf")


def _handler(faulty: FaultyS3) -> type[BaseHTTPRequestHandler]:
    host, port = urlsplit(faulty.upstream).hostname, urlsplit(faulty.upstream).port

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: object) -> None:
            pass

        def pass_on(self) -> None:
            rule = faulty.meet(self.command, self.path)
            size = int(self.headers.get("Content-Length") or 0)
            if rule and (rule.refused or (rule.after is not None and self.command != "GET")):
                self.rfile.read(min(size, rule.after or 0))
                self.drop()
                return
            body = self.rfile.read(size)
            if rule and rule.status:
                self.answer_error(rule.status)
                return
            if rule:
                faulty.wait(rule.seconds)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            upstream = HTTPConnection(str(host), port, timeout=60)
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            data = answer.read()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            upstream.close()
            if rule and rule.after is not None:
                self.wfile.write(data[: rule.after])
                self.drop()
                return
            self.wfile.write(data)

        def answer_error(self, status: int) -> None:
            code = CODES.get(status, str(status))
            said = f"<Error><Code>{code}</Code><Message>told to fail with {status}</Message></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        def drop(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            if self.command != "GET":  # a reset; after a part of an answer, plain closing lets the part arrive
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ValueError, OSError):
                self.close_connection = True  # the client hung up, or we did

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    return Handler


@contextmanager
def through(faulty: FaultyS3, monkeypatch: pytest.MonkeyPatch, attempts: int) -> Iterator[FaultyS3]:
    """Let this process, and those that it starts, reach S3 through the proxy only, with so many tries a request."""
    from s3fs import S3FileSystem

    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", faulty.url)
        patch.setenv("AWS_MAX_ATTEMPTS", str(attempts))
        S3FileSystem.clear_instance_cache()
        yield faulty
    S3FileSystem.clear_instance_cache()
