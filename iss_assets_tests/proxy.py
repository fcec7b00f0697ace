"""A TCP proxy that can be cut: for as long as one wants, or in the moment when a certain text passes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Fault = Literal["hold", "lose request", "lose answer"]
"""Nothing passes until `Proxy.resume`; the request does not arrive and the connection ends; it arrives, its answer does not."""


@dataclass
class Proxy:
    """Passes what comes to `port` on to another port of this machine.

    Attributes
    ----------
    target : int
        The other port.
    port : int
        Where it listens.
    happened : threading.Event
        Set when the fault has happened that `on` asked for.
    """

    target: int
    happened: threading.Event = field(default_factory=threading.Event)
    _open: threading.Event = field(default_factory=threading.Event)
    _fault: tuple[bytes, bytes, Fault] | None = None
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open.set()
        self.port = 0
        self.back()

    def on(self, after: bytes, request: bytes, fault: Fault) -> None:
        """Let a fault happen to the first `request` of a connection that has carried `after`."""
        self.happened.clear()
        self._fault = after, request, fault

    def hold(self) -> None:
        """Let nothing pass; connections stay open, as when a cable is out."""
        self._open.clear()

    def resume(self) -> None:
        """Let everything pass that was held."""
        self._open.set()

    def cut(self) -> None:
        """End all connections."""
        for pair in self._pairs:
            _end(*pair)
        self._pairs.clear()

    def away(self) -> None:
        """End all connections and refuse new ones, as a server that has ended."""
        # closing alone does not wake up the thread that accepts
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.resume()
        self.cut()

    def back(self) -> None:
        """Accept connections at the same port again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """End everything."""
        self.away()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._open.wait()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._pairs.append((client, server))
                muted = threading.Event()
                for work, source, to in ((self._requests, client, server), (self._answers, server, client)):
                    threading.Thread(target=work, args=(source, to, muted), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, muted: threading.Event) -> None:
        last, carried = b"", False
        with suppress(OSError):
            while data := client.recv(1 << 20):
                last = last[-64:] + data
                if self._fault is not None:
                    after, request, fault = self._fault
                    carried = carried or after in last
                    if carried and request in last:
                        self._fault = None
                        if fault == "lose request":
                            self.happened.set()
                            break
                        if fault == "hold":
                            self.hold()
                        else:
                            muted.set()
                        self.happened.set()
                self._open.wait()
                server.sendall(data)
        _end(client, server)

    def _answers(self, server: socket.socket, client: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(1 << 20)) and not muted.is_set():
                self._open.wait()
                client.sendall(data)
        _end(client, server)


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """Run a proxy while the block runs."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
