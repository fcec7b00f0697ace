"""Signing in and out: passwords, one-time links, and single sign-on through OpenID Connect."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from httpx2 import HTTPError
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from iss_assets.privacy.audit import Action, AuditLog, system_user
from iss_assets.server.accounts import LONGEST_PASSWORD, Account, Accounts, Role
from iss_assets.server.pages import Pages
from iss_assets.server.routing import GuardedRoute, local_path
from iss_assets.server.sessions import Attempts, OneTimeLinks, Session, Sessions
from iss_assets.settings import ServerSettings

log = logging.getLogger(__name__)


class SignIn:
    """Everything about who somebody is.

    Parameters
    ----------
    settings : ServerSettings
        How long sessions last, how often one may try, the identity provider.
    accounts : Accounts
        Names and passwords.
    links : OneTimeLinks
        For a home without accounts.
    audit : AuditLog
        Every sign-in is recorded.
    pages : Pages
        For the form.
    """

    def __init__(
        self, settings: ServerSettings, accounts: Accounts, links: OneTimeLinks, audit: AuditLog, pages: Pages
    ) -> None:
        self._settings, self._accounts, self._links = settings, accounts, links
        self._audit, self._pages = audit, pages
        self.sessions = Sessions(settings.session_idle_minutes * 60, settings.session_hours * 3600)
        self._by_name = Attempts(settings.sign_in_attempts, settings.sign_in_window_s)
        self._by_address = Attempts(settings.sign_in_attempts * 4, settings.sign_in_window_s)
        secure = settings.https
        self.cookie = "__Host-iss_session" if secure else f"iss_session_{settings.port}"
        """Cookies do not know ports: two homes on one machine need names of their own."""
        self._oidc = _identity_provider(settings)

    def routes(self) -> list[GuardedRoute]:
        """Return the routes of this part."""
        found = [
            GuardedRoute("/sign-in", self.form, role=None),
            GuardedRoute("/sign-in", self.with_password, role=None, methods=("POST",)),
            GuardedRoute("/link", self.with_link, role=None),
            GuardedRoute("/sign-out", self.out, role=Role.RESEARCHER, methods=("POST",)),
        ]
        if self._oidc is not None:
            found += [
                GuardedRoute("/sign-in/oidc", self.to_provider, role=None),
                GuardedRoute("/sign-in/oidc/callback", self.from_provider, role=None),
            ]
        return found

    def find(self, scope: Scope) -> Session | None:
        """Return the session of a request. It is over when its account is gone or has changed."""
        session = self.sessions.find(HTTPConnection(scope).cookies.get(self.cookie))
        if session is None or not session.stamp:
            return session
        account = self._accounts.all().get(session.name)
        return session if account and _stamp(account) == session.stamp else None

    def form(self, request: Request) -> Response:
        """Show the form."""
        return self._form(request, "", 200)

    def _form(self, request: Request, problem: str, status: int) -> Response:
        return self._pages.show(
            request, "sign_in.html.jinja", "Sign in", status,
            problem=problem, next=local_path(request.query_params.get("next")),
            accounts=bool(self._accounts.all()), provider=self._oidc is not None,
        )  # fmt: skip

    async def with_password(self, request: Request) -> Response:
        """Take name and password."""
        form = await request.form(max_files=0, max_fields=10)
        name, password = str(form.get("name", ""))[:64].strip().lower(), str(form.get("password", ""))
        address = f"address {request.client.host if request.client else ''}"
        wait = max(self._by_name.wait_s(f"name {name}"), self._by_address.wait_s(address))
        if wait:
            answer = self._form(request, f"Too many attempts. Try again in {wait} seconds.", 429)
            answer.headers["Retry-After"] = str(wait)
            return answer
        account = await run_in_threadpool(self._accounts.check, name, password[: LONGEST_PASSWORD + 1])
        if account is None:
            self._by_name.failed(f"name {name}")
            self._by_address.failed(address)
            known = name if name in self._accounts.all() else "unknown"
            await run_in_threadpool(self._audit.record, known, Action.SIGN_IN_FAILED)
            return self._form(request, "Name or password is wrong.", 401)
        self._by_name.succeeded(f"name {name}")
        session = Session(account.name, account.role, _stamp(account))
        return await self._begin(session, local_path(str(form.get("next", "/"))), "password")

    async def with_link(self, request: Request) -> Response:
        """Take the secret of a one-time link; only while there are no accounts."""
        address = f"address {request.client.host if request.client else ''}"
        if self._by_address.wait_s(address):
            return self._form(request, "Too many attempts. Wait a moment.", 429)
        if self._accounts.all() or not self._links.use(request.query_params.get("token", "")):
            self._by_address.failed(address)
            return self._form(
                request, "This link has been used or has expired. The terminal shows the current one.", 403
            )
        return await self._begin(Session(system_user(), Role.ADMIN), "/", "link")

    async def to_provider(self, request: Request) -> Response:
        """Send the browser to the identity provider."""
        request.session["next"] = local_path(request.query_params.get("next"))
        try:
            target = f"{self._settings.origin(Headers(scope=request.scope)['host'])}/sign-in/oidc/callback"
            answer: Response = await self._oidc.authorize_redirect(request, target)
        except (HTTPError, OAuthError, ValueError) as error:
            log.warning("the identity provider does not answer: %s", type(error).__name__)
            return self._form(request, "The identity provider does not answer. Try again later.", 502)
        return answer

    async def from_provider(self, request: Request) -> Response:
        """Take the identity provider's answer. authlib checks state, nonce, signature, issuer, and audience."""
        try:
            token = await self._oidc.authorize_access_token(request)
            claims: Mapping[str, Any] = token["userinfo"]
        except (OAuthError, JoseError, HTTPError, ValueError, KeyError) as error:
            log.warning("the identity provider's answer was refused: %s", type(error).__name__)
            await run_in_threadpool(self._audit.record, "unknown", Action.SIGN_IN_FAILED, how="oidc")
            return self._form(request, "The identity provider did not let you in. Try again.", 401)
        name = str(claims.get(self._settings.oidc_name_claim) or claims["sub"])[:64]
        role = role_of(claims, self._settings)
        if role is None:
            await run_in_threadpool(self._audit.record, f"oidc:{name}", Action.SIGN_IN_FAILED, how="oidc")
            return self._form(request, "You have no role in this study. Ask its administrator.", 403)
        wanted = local_path(request.session.pop("next", "/"))
        answer = await self._begin(Session(f"oidc:{name}", role), wanted, "oidc")
        # this request began on the provider's site, so a redirect would not carry a SameSite=Strict cookie
        page = self._pages.show(request, "go_on.html.jinja", "Signed in", next=wanted)
        page.raw_headers.extend(item for item in answer.raw_headers if item[0] == b"set-cookie")
        return page

    async def out(self, request: Request) -> Response:
        """End the session."""
        session: Session = request.state.session
        self.sessions.end(request.cookies.get(self.cookie))
        await run_in_threadpool(self._audit.record, session.name, Action.SIGNED_OUT)
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(self.cookie, secure=self._settings.https, httponly=True, samesite="strict")
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
        return answer

    async def _begin(self, session: Session, wanted: str, how: str) -> Response:
        await run_in_threadpool(
            self._audit.record, session.name, Action.SIGNED_IN, role=session.role.value, how=how
        )
        answer = RedirectResponse(wanted, 303)
        answer.set_cookie(
            self.cookie, self.sessions.begin(session), path="/", secure=self._settings.https,
            httponly=True, samesite="strict",
        )  # fmt: skip
        return answer


def role_of(claims: Mapping[str, Any], settings: ServerSettings) -> Role | None:
    """Return the highest role that a person's claims give, None if they give none.

    A claim may be one value or a list; ``realm_access.roles`` reaches into nested objects (Keycloak).
    """
    value: Any = claims
    for part in settings.oidc_role_claim.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    given = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    roles = [settings.oidc_roles[one] for one in given if isinstance(one, str) and one in settings.oidc_roles]
    return max((Role(role) for role in roles), key=list(Role).index, default=None)


def _stamp(account: Account) -> str:
    return hashlib.sha256(f"{account.role}\n{account.password_hash}".encode()).hexdigest()


def _identity_provider(settings: ServerSettings) -> Any:
    if not settings.oidc_issuer:
        return None
    provider = OAuth().register(
        "provider",
        server_metadata_url=settings.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else None,
        client_kwargs={"scope": settings.oidc_scope, "code_challenge_method": "S256", "timeout": 10.0},
    )
    return provider
