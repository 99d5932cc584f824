"""HTTP/1.1 between a step and its object store, or MLflow: a request after another on each connection."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from chaos.effects import KILLS, Action, Request
from chaos.proxy import Proxy, Stream

_ERROR = b"<?xml version='1.0'?><Error><Code>%b</Code><Message>made by a test</Message></Error>"


def serve(client: Stream, server: Stream, proxy: Proxy, *, service: str = "store") -> None:
    """Pass requests of one connection on as requests to `service`."""
    while True:
        head = client.until(b"\r\n\r\n")
        method, target, headers = _parse(head)
        if headers.get("expect") == "100-continue":
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        message = head + _body(client, headers)
        plan = proxy.plan
        action = plan.decide(Request(service, f"{method} {_name(target)}", method not in ("GET", "HEAD")))
        if action is Action.ERROR:
            client.send(_answer(method, 503, b"SlowDown"))
            continue
        if action in (Action.PASS, Action.KILL_AFTER, Action.LOSE, Action.LATE_ERROR, Action.CUT_ANSWER):
            server.send(message)
            answer, closing = _read_answer(server, method)
        elif action in (Action.KILL_INSIDE, Action.CUT):
            # Of a request without a body, half of its head.
            server.send(message[: (len(head) + len(message)) // 2 if len(message) > len(head) else len(head) // 2])
        if action in KILLS:
            plan.kill()
        if action is Action.LATE_ERROR:
            client.send(_answer(method, 500, b"InternalError"))
        elif action is Action.CUT_ANSWER:
            client.send(answer[: len(answer) // 2])
            return
        elif action is Action.PASS:
            client.send(answer)
            if closing:
                return
        else:
            return


def _name(target: str) -> str:
    parts = urlsplit(target)
    # The query of a listing, a part or an upload is part of what is requested.
    return unquote(parts.path) + (f"?{parts.query}" if parts.query else "")


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return method, target, {name.strip().lower(): value.strip() for name, value in pairs}


def _body(source: Stream, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while True:
            size = source.until(b"\r\n")
            body += size + source.exactly(int(size.split(b";")[0], 16) + 2)
            if int(size.split(b";")[0], 16) == 0:
                return body
    return source.exactly(int(headers.get("content-length", 0)))


def _read_answer(server: Stream, method: str) -> tuple[bytes, bool]:
    """The whole answer, and whether the server closes the connection after it."""
    while True:
        head = server.until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 100:
            break
    _, *lines = head.decode("latin-1").split("\r\n")
    headers = {n.strip().lower(): v.strip() for n, v in (line.split(":", 1) for line in lines if ":" in line)}
    empty = method == "HEAD" or status in (204, 304)
    return head + (b"" if empty else _body(server, headers)), headers.get("connection") == "close"


def _answer(method: str, status: int, code: bytes) -> bytes:
    body = _ERROR % code
    head = f"HTTP/1.1 {status} Error\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)
