"""PostgreSQL's protocol (version 3) between a step and its warehouse, a transaction after another."""

from __future__ import annotations

import re
import struct
import threading
from dataclasses import dataclass, field

from chaos.effects import KILLS, Action, Request
from chaos.proxy import Proxy, Stream

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_LAST = b"SQHcfXdp"
"""Types of the messages after which the client waits for the server, or that are passed on one by one."""
_WRITES = re.compile(
    r"INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|COPY .* FROM STDIN|TRUNCATE|GRANT|REVOKE|COMMENT|MERGE"
    r"|.*setval|.*create_month",
    re.S,
)
_ANSWER_SECONDS = 120
_DISK_FULL = b"SERROR\0VERROR\0C53100\0Mcould not extend file: No space left on device (made by a test)\0\0"


@dataclass
class _Session:
    """A connection between the two sides."""

    client: Stream
    server: Stream
    statements: dict[bytes, str] = field(default_factory=dict)
    wrote: bool = False
    """Whether the transaction has written."""
    status: bytes = b"I"
    """Of the transaction, as the server stated it last: idle, in a transaction, failed."""
    copying: str = ""
    """The COPY whose rows are being sent."""
    simple: bool = False
    """Whether that COPY came in the simple protocol, in which nothing follows the end of its rows."""
    held: threading.Event | None = None
    """Set when the server has answered, whose answers are kept back."""


def serve(client: Stream, server: Stream, proxy: Proxy) -> None:
    start = _startup(client)
    server.send(start)
    if struct.unpack("!i", start[4:8])[0] == _CANCEL:
        return
    session = _Session(client, server)
    threading.Thread(target=_answers, args=(session,), daemon=True).start()
    while True:
        unit, text = _unit(session)
        if unit[:1] == b"X":
            server.send(unit)
            return
        if not _pass_on(session, proxy, unit, text):
            return


def _pass_on(session: _Session, proxy: Proxy, unit: bytes, text: str) -> bool:
    """Do with a unit what the plan says. Returns whether the connection goes on."""
    plan, action = proxy.plan, Action.PASS
    if text:
        action = plan.decide(Request("warehouse", text, _writes(session, text)))
    if action is Action.ERROR:
        session.client.send(_message(b"E", _DISK_FULL) + _message(b"Z", b"I" if session.status == b"I" else b"E"))
        return True
    if action is Action.PASS:
        session.server.send(unit)
    elif action in (Action.KILL_INSIDE, Action.CUT):
        session.server.send(unit[: len(unit) // 2])
    elif action in (Action.KILL_AFTER, Action.LOSE):
        session.held = threading.Event()
        session.server.send(unit)
        if not session.held.wait(_ANSWER_SECONDS):
            raise AssertionError(f"no answer to {text}")
    elif action not in (Action.KILL_BEFORE, Action.DROP):
        raise AssertionError(f"{action} is not for a warehouse")
    if action in KILLS:
        plan.kill()
    return action is Action.PASS


def _startup(client: Stream) -> bytes:
    while True:
        size = client.exactly(4)
        rest = client.exactly(struct.unpack("!i", size)[0] - 4)
        if struct.unpack("!i", rest[:4])[0] not in (_SSL, _GSS):
            return size + rest
        client.send(b"N")


def _unit(session: _Session) -> tuple[bytes, str]:
    """What the client sends before it waits, and its statements; "" for none, such as rows of a COPY or a password."""
    sent, texts = b"", []
    while True:
        kind = session.client.exactly(1)
        size = session.client.exactly(4)
        body = session.client.exactly(struct.unpack("!i", size)[0] - 4)
        sent += kind + size + body
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            session.statements[name] = _without_values(query)
        elif kind == b"B":
            texts.append(session.statements[body.split(b"\0", 2)[1]])
        elif kind == b"Q":
            texts.append(_without_values(body.rstrip(b"\0")))
        elif kind == b"c":
            texts.append(f"end of {session.copying}")
        if kind in _LAST and (kind != b"c" or session.simple):
            break
    text = "; ".join(dict.fromkeys(texts))
    if re.match("COPY .* FROM STDIN", text, re.S):
        session.copying, session.simple = text, kind == b"Q"
    return sent, text


def _writes(session: _Session, text: str) -> bool:
    """Whether statements write: also the COMMIT of a transaction that did, and the end of rows that are copied."""
    if text in ("COMMIT", "ROLLBACK"):
        wrote, session.wrote = session.wrote, False
        return wrote and text == "COMMIT"
    if _WRITES.match(text) or text.startswith("end of "):
        session.wrote = True
        return True
    return False


def _without_values(query: bytes) -> str:
    text = re.sub(r"'(?:[^']|'')*'", "?", " ".join(query.decode().split()))
    return re.sub(r"\b\d+\b", "0", text)


def _answers(session: _Session) -> None:
    """Pass the server's messages on, unless they are held."""
    try:
        while True:
            head = session.server.exactly(5)
            body = session.server.exactly(struct.unpack("!i", head[1:])[0] - 4)
            message = head + body
            if head[:1] == b"Z":
                session.status = body
            held = session.held
            if held is None:
                session.client.send(message)
            # A COPY in the extended protocol is answered before its rows, without an end.
            elif head[:1] in b"ZG":
                held.set()
    except (OSError, EOFError):
        session.client.close()
        session.server.close()
        if session.held is not None:
            session.held.set()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
