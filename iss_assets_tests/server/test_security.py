"""What every request passes first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from iss_assets.privacy.audit import Action, AuditLog
from iss_assets.server import sign_in
from iss_assets.server.accounts import Accounts, Role
from iss_assets.server.application import DagsterApps, build_application
from iss_assets.server.routing import GuardedMount, GuardedRoute
from iss_assets.server.security import host_name
from iss_assets.server.sessions import Sessions
from iss_assets.settings import ServerSettings, Settings

ADDRESS = "http://localhost:3000"
WEBSOCKET = "ws://localhost:3000/dagster/graphql"
PASSWORDS = {role.value: f"a long password of {role.value}" for role in Role}
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def probe(name: str) -> Callable[[Scope, Receive, Send], Any]:
    """An application in Dagster's place that says which one it is and what reached it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                if message["type"] == "websocket.receive":
                    await send({"type": "websocket.send", "text": f"{name} {message['text']}"})
            return
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        picture = "![faces](data:image/jpeg;base64,/9j/4AAQSkZJRg)"
        await JSONResponse({"app": name, "path": scope["path"], "body": body.decode(), "metadata": picture})(
            scope, receive, send
        )

    return app


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(study=tmp_path / "study", home=tmp_path / "home")
    accounts = Accounts(settings.accounts_path, CHEAP)
    for name, password in PASSWORDS.items():
        accounts.add(name, Role(name), password)
    settings.reports_dir.mkdir()
    page = "<!doctype html><title>r</title><p>Report</p><script>let a = 1;</script>"
    (settings.reports_dir / "index.html").write_text(page)
    (settings.reports_dir / ".hidden.html").write_text("secret")
    (settings.home / "secret.txt").write_text("secret")
    (settings.reports_dir / "out.html").symlink_to(settings.home / "secret.txt")
    return settings


@pytest.fixture
def application(settings: Settings) -> Starlette:
    return build_application(settings, DagsterApps(probe("full"), probe("read-only")), lambda secret: None)


def client(application: Starlette, role: str | None = None, address: str = ADDRESS) -> TestClient:
    browser = TestClient(application, base_url=address, follow_redirects=False)
    if role:
        form = {"name": role, "password": PASSWORDS[role], "next": "/"}
        answer = browser.post("/sign-in", data=form, headers={"Origin": address})
        assert answer.status_code == 303, answer.text
    return browser


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "",
        "127.0.0.2",
        "localhost:abc",
        "[::1",
        "localhost/x",
        "169.254.169.254",
    ],
)
def test_another_host_name_is_refused_before_anything_else(application: Starlette, host: str) -> None:
    browser = client(application, "admin")
    for path in ("/", "/sign-in", "/health", "/static/app.css", "/dagster/graphql"):
        assert browser.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1:9", "LOCALHOST", "[::1]:3000"])
def test_names_of_this_machine_are_answered(application: Starlette, host: str) -> None:
    assert client(application).get("/health", headers={"Host": host}).status_code == 200


def test_host_names_are_read_without_port_and_in_lower_case() -> None:
    assert host_name("Pain.Example.org:443") == "pain.example.org"
    assert host_name("[::1]:80") == "[::1]"
    assert host_name("a:b@c") == "" and host_name("a:b") == ""


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "https://localhost:3000", "http://localhost:3001", "file://"],
)
def test_a_change_from_elsewhere_is_refused_with_the_right_cookie_too(
    application: Starlette, origin: str | None
) -> None:
    browser = client(application, "admin")
    headers = {} if origin is None else {"Origin": origin}
    for path in ("/sign-out", "/dagster/graphql", "/sign-in"):
        assert browser.post(path, headers=headers, json={"query": "{ version }"}).status_code == 403
    with pytest.raises(WebSocketDisconnect) as refused, browser.websocket_connect(WEBSOCKET, headers=headers):
        pass
    assert "did not come from" in refused.value.reason
    assert browser.get("/").status_code == 200  # still signed in


def test_nobody_sees_anything_without_signing_in(application: Starlette) -> None:
    browser = client(application)
    public = {"/health", "/sign-in", "/link", "/static/{name}"}
    for route in application.routes:
        assert isinstance(route, GuardedRoute | GuardedMount)
        assert (route.role is None) == (route.path in public), route.path
        if route.role is not None:
            path = route.path.replace("{path:path}", "index.html") + (
                "/x" if isinstance(route, GuardedMount) else ""
            )
            assert browser.get(path).status_code == 401
            page = browser.get(path, headers={"Accept": "text/html"})
            assert page.status_code == 303 and page.headers["location"].startswith("/sign-in?next=%2F")
    own = {"Origin": ADDRESS}
    with pytest.raises(WebSocketDisconnect) as refused, browser.websocket_connect(WEBSOCKET, headers=own):
        pass
    assert refused.value.reason == "Sign in first."


def test_a_route_without_a_role_does_not_start(settings: Settings) -> None:
    apps = DagsterApps(probe("full"), probe("read-only"))
    forgotten = Route("/forgotten", lambda request: JSONResponse({}))
    application = build_application(
        settings, apps, lambda s: None, more_routes=lambda pages, audit: [forgotten]
    )
    with pytest.raises(TypeError, match="without a role"):
        client(application).get("/health")


def test_paths_that_lead_out_of_the_reports_are_not_there(application: Starlette) -> None:
    browser = client(application, "researcher")
    assert browser.get("/reports/").status_code == 200
    for path in (
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        ".hidden.html",
        "out.html",
    ):
        answer = browser.get(f"/reports/{path}")
        assert answer.status_code == 404 and "secret" not in answer.text


def test_pages_keep_to_themselves_and_run_only_their_own_scripts(application: Starlette) -> None:
    browser = client(application, "researcher")
    for path in ("/", "/sign-in", "/reports/", "/nothing"):
        headers = browser.get(path).headers
        assert headers["cache-control"] == "no-store" and headers["x-frame-options"] == "DENY"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        scripts = next(part for part in policy.split(";") if "script-src" in part)
        assert "unsafe" not in scripts and "http" not in scripts
    allowed = browser.get("/reports/").headers["content-security-policy"].split("script-src ")[1]
    # printf 'let a = 1;' | openssl dgst -sha256 -binary | base64
    assert allowed == "'sha256-xY6QKfH9PRsQnLz56nj6MBwiK5oHg+im1Jkpdp1x/Ck='"


def test_the_cookie_cannot_be_read_by_scripts_nor_sent_from_other_sites(settings: Settings) -> None:
    for server, name, secure in (
        (ServerSettings(port=3000), "iss_session_3000", False),
        (ServerSettings(public_url="https://pain.example.org"), "__Host-iss_session", True),
    ):
        changed = settings.model_copy(update={"server": server})
        application = build_application(changed, DagsterApps(probe("a"), probe("b")), lambda s: None)
        address = server.public_url or ADDRESS
        browser = TestClient(application, base_url=address, follow_redirects=False)
        form = {"name": "admin", "password": PASSWORDS["admin"]}
        answer = browser.post("/sign-in", data=form, headers={"Origin": address})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(name + "=") and "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert ("Secure" in cookie) == secure and "Domain" not in cookie
        assert ("strict-transport-security" in answer.headers) == secure


def test_guessing_is_slowed_down_and_recorded(application: Starlette, settings: Settings) -> None:
    browser = client(application)

    def attempt(name: str, password: str) -> int:
        form = {"name": name, "password": password}
        return browser.post("/sign-in", data=form, headers={"Origin": ADDRESS}).status_code

    statuses = [attempt("admin", f"wrong password {n}") for n in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    # the right password waits, too; another account is not held up
    assert attempt("admin", PASSWORDS["admin"]) == 429
    assert attempt("researcher", PASSWORDS["researcher"]) == 303
    assert attempt("nobody", "whatever it may be") == 401
    lines = list(AuditLog(settings.audit_path).lines())
    failed = [line.who for line in lines if line.action == Action.SIGN_IN_FAILED]
    assert failed == ["admin"] * 5 + ["unknown"]
    assert "wrong password" not in settings.audit_path.read_text()


def test_a_session_ends_with_its_account_its_password_and_signing_out(
    application: Starlette, settings: Settings
) -> None:
    accounts = Accounts(settings.accounts_path, CHEAP)
    one, two = client(application, "coordinator"), client(application, "coordinator")
    assert one.post("/sign-out", headers={"Origin": ADDRESS}).status_code == 303
    assert one.get("/").status_code == 401 and two.get("/").status_code == 200
    accounts.set_password("coordinator", "another long password")
    assert two.get("/").status_code == 401
    three = client(application, "researcher")
    accounts.remove("researcher")
    assert three.get("/").status_code == 401


@pytest.mark.parametrize(("every_s", "ends_after_s"), [(1e9, 30 * 60), (29 * 60, 12 * 3600)])
def test_a_session_ends_after_half_an_hour_without_a_request_and_after_half_a_day(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, every_s: float, ends_after_s: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(sign_in, "Sessions", partial(Sessions, clock=lambda: now))
    application = build_application(settings, DagsterApps(probe("full"), probe("ro")), lambda secret: None)
    for late, status in ((0.0, 200), (0.001, 401)):
        now = 1000.0
        browser = client(application, "researcher")
        while now + every_s < 1000 + ends_after_s:
            now += every_s
            assert browser.get("/").status_code == 200
        now = 1000 + ends_after_s + late
        assert browser.get("/").status_code == status


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nX: y", "x"]
)
def test_signing_in_leads_only_to_pages_of_this_server(application: Starlette, wanted: str) -> None:
    form = {"name": "admin", "password": PASSWORDS["admin"], "next": wanted}
    answer = client(application).post("/sign-in", data=form, headers={"Origin": ADDRESS})
    assert answer.status_code == 303 and answer.headers["location"] == "/"


def test_a_link_signs_in_once_and_only_where_there_are_no_accounts(tmp_path: Path) -> None:
    settings = Settings(study=tmp_path / "study", home=tmp_path / "home")
    secrets: list[str] = []
    application = build_application(settings, DagsterApps(probe("full"), probe("ro")), secrets.append)
    browser = client(application)
    assert browser.get("/link?token=wrong").status_code == 403
    assert browser.get(f"/link?token={secrets[0]}").status_code == 303
    assert browser.get("/").status_code == 200
    other = client(application)
    assert other.get(f"/link?token={secrets[0]}").status_code == 403 and other.get("/").status_code == 401
    assert len(secrets) == 2 and len(set(secrets)) == 2
    Accounts(settings.accounts_path, CHEAP).add("admin", Role.ADMIN, PASSWORDS["admin"])
    assert other.get(f"/link?token={secrets[1]}").status_code == 403
    assert not any(secret in settings.audit_path.read_text() for secret in secrets)
