"""Routes that know who may use them. A route cannot be made without saying so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from iss_assets.server.accounts import Role
from iss_assets.server.security import refuse
from iss_assets.server.sessions import Session

Endpoint = Callable[[Request], Response | Awaitable[Response]]


class GuardedRoute(Route):
    """A route for a role and those above it.

    Parameters
    ----------
    path : str
        As for Starlette's ``Route``.
    endpoint : callable
        Synchronous endpoints run in a thread.
    role : Role or None
        The least role; None for the few routes that nobody has to sign in for.
    methods : sequence of str
        HTTP methods.
    """

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, role: Role | None, methods: Sequence[str] = ("GET",)
    ) -> None:
        super().__init__(path, endpoint, methods=list(methods))
        self.role = role


class GuardedMount(Mount):
    """An application of its own for a role and those above it; see `GuardedRoute`."""

    def __init__(self, path: str, app: ASGIApp, *, role: Role | None) -> None:
        super().__init__(path, app=app)
        self.role = role


def session_of(request: Request) -> Session:
    """Return who makes a request to a route that has a role."""
    session: Session = request.state.session
    return session


class Guard:
    """Lets a request through to a route if its session's role allows it; what has no route is for nobody.

    Parameters
    ----------
    app : ASGI application
        The router behind.
    routes : sequence of routes
        All of its routes: guarded ones, or the application refuses to start.
    find : callable
        From a request's headers to its session or None.
    """

    def __init__(
        self, app: ASGIApp, routes: Sequence[BaseRoute], find: Callable[[Scope], Session | None]
    ) -> None:
        unguarded = [route for route in routes if not isinstance(route, GuardedRoute | GuardedMount)]
        if unguarded:
            raise TypeError(f"routes without a role: {unguarded}")
        self._app, self._routes, self._find = app, routes, find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        session = await run_in_threadpool(self._find, scope)
        scope.setdefault("state", {})["session"] = session
        role, known = self._role_wanted(scope)
        if known and role is None:
            await self._app(scope, receive, send)
        elif session is None:
            await self._sign_in_first(scope, receive, send)
        elif not known:
            await refuse(scope, receive, send, 404, "There is no such page.")
        elif not session.role.includes(role or Role.ADMIN):
            await refuse(scope, receive, send, 403, "Your account may not see this.")
        else:
            await self._app(scope, receive, send)

    def _role_wanted(self, scope: Scope) -> tuple[Role | None, bool]:
        """Return the role of the route that the router will choose, and whether there is one."""
        partial: BaseRoute | None = None
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return _role(route), True
            if match is Match.PARTIAL and partial is None:
                partial = route
        return (None, False) if partial is None else (_role(partial), True)

    async def _sign_in_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["method"] == "GET"
        accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        if page and b"text/html" in accepts:
            url = URL(scope=scope)
            wanted = url.path + (f"?{url.query}" if url.query else "")
            await RedirectResponse(f"/sign-in?next={quote(wanted, safe='')}", 303)(scope, receive, send)
            return
        await refuse(scope, receive, send, 401, "Sign in first.")


def _role(route: BaseRoute) -> Role | None:
    assert isinstance(route, GuardedRoute | GuardedMount)
    return route.role


def local_path(wanted: str | None) -> str:
    """Return where to go after signing in: a path of this server, ``/`` for anything else."""
    if not wanted or not wanted.startswith("/") or wanted.startswith("//"):
        return "/"
    if any(ord(letter) < 32 or letter == "\\" for letter in wanted):
        return "/"
    return wanted
