"""What every request passes first: allowed hosts, same origin, and headers that keep pages to themselves.

A page on another site can make a browser send requests here (and, with DNS rebinding, under a name of its own). So the
Host header must be one of ours, and whatever changes something, websockets included, must come from our own pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content Security Policy of our own pages; pages that bring their own (reports, Dagster) set another one."""
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")


def host_name(authority: str) -> str:
    """Return the host of ``host:port`` in lower case, without the port; empty if it is malformed."""
    try:
        parts = urlsplit(f"//{authority}")
        parts.port  # noqa: B018 (raises if it is no number)
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment or not parts.hostname:
        return ""
    return f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname


class AllowedHosts:
    """Refuses requests whose Host header is not one of ours (421), before anything else looks at them.

    Parameters
    ----------
    app : ASGI application
        What is behind.
    hosts : iterable of str
        Names without a port.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket."""
        if scope["type"] in ("http", "websocket"):
            given = Headers(scope=scope).getlist("host")
            if len(given) != 1 or host_name(given[0]) not in self._hosts:
                await refuse(scope, receive, send, 421, "This server does not answer to that host name.")
                return
        await self._app(scope, receive, send)


class SameOrigin:
    """Refuses changes and websockets that do not come from our own pages (403).

    Parameters
    ----------
    app : ASGI application
        What is behind.
    origins : sequence of str
        Origins besides ``scheme://Host``: the public address behind a reverse proxy.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket."""
        changes = scope["type"] == "websocket" or (
            scope["type"] == "http" and scope["method"] not in SAFE_METHODS
        )
        if changes:
            headers = Headers(scope=scope)
            scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
            own = {f"{scheme}://{headers['host']}".lower(), *self._origins}
            given = headers.getlist("origin")
            if len(given) != 1 or given[0].lower() not in own:
                await refuse(
                    scope, receive, send, 403, "This request did not come from a page of this server."
                )
                return
        await self._app(scope, receive, send)


class SafeHeaders:
    """Adds the headers that browsers need to keep our pages to themselves. What a response sets itself wins.

    Parameters
    ----------
    app : ASGI application
        What is behind.
    https : bool
        Whether browsers reach this server by HTTPS; they then keep to it.
    """

    def __init__(self, app: ASGIApp, https: bool) -> None:
        self._app, self._https = app, https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", PAGE_POLICY)
                headers.setdefault("Cache-Control", "no-store")
                if self._https:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    """Answer with a short text, or close a websocket before it opens (the client sees 403)."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text})
        return
    await PlainTextResponse(text + "\n", status)(scope, receive, send)
