"""A receiver of alerts: an HTTP server that Apprise posts JSON to, and that can be told to reject what comes."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nightshift.settings import Settings

SECRET = "s3cr3t-path"


class Receiver:
    """`received`: the accepted messages, each as title and text. With `up` false it answers 503. `seconds`: how long
    an answer takes, a part of it each tenth of a second."""

    def __init__(self, port: int) -> None:
        self.url = f"json://127.0.0.1:{port}/{SECRET}"
        self.received: list[tuple[str, str]] = []
        self.refused = 0
        self.up = True
        self.seconds = 0.0

    @property
    def lines(self) -> list[str]:
        """The lines of all accepted messages."""
        return [line for _, text in self.received for line in text.splitlines()]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that runs in a thread of this process."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if receiver.up:
                receiver.received.append((message["title"], message["message"]))
            else:
                receiver.refused += 1
            self.send_response(200 if receiver.up else 503)
            self.flush_headers()
            self.wfile.write(b"Slow")
            begun = time.monotonic()
            while time.monotonic() - begun < receiver.seconds:
                self.wfile.write(b"-")
                time.sleep(0.1)
            self.wfile.write(b": yes\r\n")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def with_receivers(settings: Settings, *receivers: Receiver) -> Settings:
    """The settings with these receivers of alerts."""
    urls = ", ".join(one.url for one in receivers)
    return Settings(**(settings.model_dump() | {"alert_urls": urls}))
