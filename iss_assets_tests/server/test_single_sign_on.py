"""Single sign-on against an OpenID Connect provider that runs here, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.server.accounts import Role
from iss_assets.server.application import DagsterApps, build_application
from iss_assets.server.sign_in import role_of
from iss_assets.settings import ServerSettings, Settings
from iss_assets_tests.server.test_security import probe

ADDRESS = "http://localhost:3000"


class Provider:
    """A small OpenID Connect provider: authorization code with PKCE, RS256."""

    def __init__(self) -> None:
        self.key, self.other_key = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
        self.claims: dict[str, Any] = {"preferred_username": "maria", "roles": ["iss-coordinator"]}
        self.change: dict[str, Any] = {}
        self.forged = False
        self._asked: dict[str, dict[str, str]] = {}
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        # whoever comes before the server's thread waits
        self._socket.listen()
        self.issuer = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        routes = [
            Route("/.well-known/openid-configuration", self.configuration),
            Route("/authorize", self.authorize),
            Route("/token", self.token, methods=["POST"]),
            Route(
                "/keys", lambda request: JSONResponse({"keys": [self.key.as_dict(private=False, kid="k")]})
            ),
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off")
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)

    def configuration(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
        code = f"code-{len(self._asked)}"
        self._asked[code] = asked
        return RedirectResponse(
            f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
        )

    async def token(self, request: Request) -> Response:
        form = await request.form()
        asked = self._asked.pop(str(form["code"]))
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        assert base64.b64decode(request.headers["authorization"].split()[1]) == b"iss:the secret"
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": "iss", "sub": "4711", "iat": now, "exp": now + 60, "nonce": asked["nonce"],
            **self.claims, **self.change,
        }  # fmt: skip
        key = self.other_key if self.forged else self.key
        token = jwt.encode({"alg": "RS256", "kid": "k"}, claims, key)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.claims = {"preferred_username": "maria", "roles": ["iss-coordinator"]}
    running.change, running.forged = {}, False
    return running


@pytest.fixture
def settings(tmp_path: Path, provider: Provider) -> Settings:
    server = ServerSettings(
        oidc_issuer=provider.issuer, oidc_client_id="iss", oidc_client_secret=SecretStr("the secret")
    )
    return Settings(study=tmp_path / "study", home=tmp_path / "home", server=server)


@pytest.fixture
def browser(settings: Settings) -> TestClient:
    secrets: list[str] = []
    application = build_application(settings, DagsterApps(probe("full"), probe("read-only")), secrets.append)
    assert not secrets  # no way in beside the provider
    return TestClient(application, base_url=ADDRESS, follow_redirects=False)


def sign_in(browser: TestClient, provider: Provider) -> Any:
    there = browser.get("/sign-in/oidc?next=/reports/")
    assert there.status_code == 302, there.text
    back = httpx2.get(there.headers["location"]).headers["location"]
    parts = urlsplit(back)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{ADDRESS}/sign-in/oidc/callback"
    return browser.get(f"{parts.path}?{parts.query}"), parse_qs(parts.query)


def test_somebody_with_a_role_is_let_in_as_that(
    browser: TestClient, provider: Provider, settings: Settings
) -> None:
    answer, _ = sign_in(browser, provider)
    # not a redirect: a strict cookie would not follow one that began at the provider
    assert answer.status_code == 200 and 'content="0; url=/reports/"' in answer.text
    assert "SameSite=strict" in answer.headers["set-cookie"]
    page = browser.get("/")
    assert "oidc:maria (coordinator)" in page.text
    assert browser.get("/dagster/x").json()["app"] == "full"
    line = list(AuditLog(settings.audit_path).lines())[-1]
    assert (line.who, line.action, line.detail["how"]) == ("oidc:maria", Action.SIGNED_IN, "oidc")


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "another"},
        {"aud": "another"},
        {"iss": "http://evil.example"},
        {"exp": 1_000_000_000},
    ],
    ids=str,
)
def test_a_token_for_somebody_else_is_refused(
    browser: TestClient, provider: Provider, change: dict[str, Any]
) -> None:
    provider.change = change
    answer, _ = sign_in(browser, provider)
    assert answer.status_code == 401 and browser.get("/").status_code == 401


def test_a_token_with_another_signature_is_refused(browser: TestClient, provider: Provider) -> None:
    provider.forged = True
    answer, _ = sign_in(browser, provider)
    assert answer.status_code == 401 and browser.get("/").status_code == 401


def test_an_answer_that_nobody_asked_for_is_refused(
    browser: TestClient, provider: Provider, settings: Settings
) -> None:
    answer, query = sign_in(browser, provider)
    assert answer.status_code == 200
    other = TestClient(browser.app, base_url=ADDRESS, follow_redirects=False)
    again = other.get("/sign-in/oidc/callback", params={"code": "code-0", "state": query["state"][0]})
    assert again.status_code == 401 and other.get("/").status_code == 401


def test_somebody_without_a_role_is_not_let_in(
    browser: TestClient, provider: Provider, settings: Settings
) -> None:
    provider.claims = {"preferred_username": "mallory", "roles": ["accounting", {"odd": 1}, None]}
    answer, _ = sign_in(browser, provider)
    assert answer.status_code == 403 and browser.get("/").status_code == 401
    line = list(AuditLog(settings.audit_path).lines())[-1]
    assert (line.who, line.action) == ("oidc:mallory", Action.SIGN_IN_FAILED)


def test_a_provider_that_does_not_answer_is_a_clear_page(settings: Settings) -> None:
    server = settings.server.model_copy(update={"oidc_issuer": "http://127.0.0.1:9"})
    application = build_application(
        settings.model_copy(update={"server": server}), DagsterApps(probe("a"), probe("b")), lambda s: None
    )
    answer = TestClient(application, base_url=ADDRESS, follow_redirects=False).get("/sign-in/oidc")
    assert answer.status_code == 502 and "does not answer" in answer.text


@pytest.mark.parametrize(
    ("claims", "path", "role"),
    [
        ({"roles": ["iss-researcher", "iss-admin"]}, "roles", Role.ADMIN),
        ({"roles": "iss-researcher"}, "roles", Role.RESEARCHER),
        ({"realm_access": {"roles": ["iss-coordinator"]}}, "realm_access.roles", Role.COORDINATOR),
        ({"realm_access": ["iss-admin"]}, "realm_access.roles", None),
        ({"roles": {"iss-admin": True}}, "roles", None),
        ({}, "roles", None),
    ],
)
def test_roles_come_from_the_claim(claims: dict[str, Any], path: str, role: Role | None) -> None:
    assert role_of(claims, ServerSettings(oidc_role_claim=path)) == role
