"""A server on a free port that passes each connection on to another server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from chaos.effects import Plan, Quiet

BUFFER = 1 << 16


class Stream:
    """A socket that is read exactly."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket, self._buffer = connected, b""
        if connected.family == socket.AF_INET:
            # Half a request waits for no acknowledgement before the other half follows.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)

    def some(self) -> bytes:
        """Bytes that are there, at least one. Raises EOFError at the end."""
        if self._buffer:
            taken, self._buffer = self._buffer, b""
            return taken
        received = self.socket.recv(BUFFER)
        if not received:
            raise EOFError
        return received

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            received = self.socket.recv(BUFFER)
            if not received:
                raise EOFError
            self._buffer += received
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            received = self.socket.recv(BUFFER)
            if not received:
                raise EOFError
            self._buffer += received
        return self.exactly(self._buffer.index(mark) + len(mark))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        # Wakes the thread that is reading it; close alone does not.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Proxy:
    """Listens on the loopback interface until closed. `plan` may be replaced at any time.

    `serve` passes one connection on and returns, or raises OSError or EOFError, when it has ended.
    """

    def __init__(self, connect: Callable[[], socket.socket], serve: Callable[[Stream, Stream, Proxy], None]) -> None:
        self._connect, self._serve = connect, serve
        self.plan: Plan = Quiet()
        self.failures: list[BaseException] = []
        self._connections: dict[threading.Thread, list[Stream]] = {}
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def disconnect(self) -> None:
        """End all connections; returns when nothing is passed on any more."""
        for thread, streams in list(self._connections.items()):
            for stream in streams:
                stream.close()
            thread.join()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            streams = [Stream(accepted)]
            thread = threading.Thread(target=self._pass_on, args=(streams,), daemon=True)
            self._connections[thread] = streams
            thread.start()

    def _pass_on(self, streams: list[Stream]) -> None:
        try:
            streams.append(Stream(self._connect()))
            self._serve(*streams, self)
        except (OSError, EOFError):
            pass  # one side has closed: so is the other
        except BaseException as error:
            self.failures.append(error)
            raise
        finally:
            for stream in streams:
                stream.close()
            del self._connections[threading.current_thread()]
