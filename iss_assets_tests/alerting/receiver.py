"""An address for alerts: a real HTTP server."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """An HTTP server on localhost that keeps what it is sent; `answer` says how it behaves."""

    def __init__(self) -> None:
        self.answer = "ok"
        self.got: list[dict[str, str]] = []
        self.keys: list[tuple[str, str]] = []
        """Header and field of every message that came, answered in time or not."""
        self.tried = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.tried += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.keys.append((self.headers["Idempotency-Key"], body["idempotency_key"]))
                if receiver.answer == "slow":
                    time.sleep(30)
                if receiver.answer == "drip":
                    for _ in range(300):
                        self.wfile.write(b"H")
                        time.sleep(0.1)
                receiver.got += [body] if receiver.answer == "ok" else []
                self.send_response(200 if receiver.answer == "ok" else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_address[1]}/hook-s3cret"
