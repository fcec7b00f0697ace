"""The web application: one Starlette app with sign-in, pages, and Dagster behind the same door."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from iss_assets.intake.records import StudyFolderError
from iss_assets.pipeline.home import without_folders
from iss_assets.privacy.audit import Action, AuditError, AuditLog
from iss_assets.server.accounts import Accounts, Role
from iss_assets.server.daemon_watch import DaemonState
from iss_assets.server.dagster_access import DagsterAccess
from iss_assets.server.desk import Desk
from iss_assets.server.media import Media
from iss_assets.server.pages import Pages, report_file, static_file
from iss_assets.server.previews import Previews
from iss_assets.server.routing import Guard, GuardedMount, GuardedRoute
from iss_assets.server.security import LOCAL_NAMES, AllowedHosts, SafeHeaders, SameOrigin, host_name
from iss_assets.server.sessions import OneTimeLinks
from iss_assets.server.sign_in import SignIn
from iss_assets.server.study_data import StudyData
from iss_assets.server.study_pages import StudyPages
from iss_assets.settings import Settings
from iss_assets.warehouse.database import WarehouseError
from iss_assets.warehouse.locking import LockTimeout

DAGSTER = "/dagster"


@dataclass(frozen=True)
class DagsterApps:
    """Dagster's web app twice, made with the prefix `DAGSTER`: over a full and over a read-only workspace."""

    full: ASGIApp
    read_only: ASGIApp


def build_application(
    settings: Settings,
    dagster: DagsterApps,
    announce: Callable[[str], None],
    previews: Previews | None = None,
    more_routes: Callable[[Pages, AuditLog], Sequence[BaseRoute]] = lambda pages, audit: (),
    invented: bool = False,
    daemon: Callable[[], DaemonState] | None = None,
) -> Starlette:
    """Build the application.

    Parameters
    ----------
    settings : Settings
        Home and server settings.
    dagster : DagsterApps
        What `DAGSTER` leads to.
    announce : callable
        Called with the secret of each one-time link.
    previews : Previews, optional
        What makes previews of videos; whoever gives them closes them.
    more_routes : callable
        Further guarded routes.
    invented : bool
        Whether the study's patients are invented.
    daemon : callable, optional
        Asks whether the daemon is alive.

    Returns
    -------
    Starlette
        Its ``state.study`` is the `StudyData` that its pages share.

    Raises
    ------
    TypeError
        If a route has no role.
    """
    server = settings.server
    audit = AuditLog.of(settings)
    pages = Pages(invented)
    links = OneTimeLinks(announce)
    accounts = Accounts(settings.accounts_path)
    study = StudyData(settings)
    sign_in = SignIn(server, accounts, links, audit, pages)

    async def launched(who: str, mutation: str) -> None:
        await run_in_threadpool(audit.record, who, Action.RUN_LAUNCHED, mutation=mutation)

    routes: list[BaseRoute] = [
        GuardedRoute("/health", lambda request: PlainTextResponse("ok\n"), role=None),
        GuardedRoute("/static/{name}", static_file, role=None),
        GuardedRoute(
            "/reports/{path:path}", partial(report_file, settings.reports_dir), role=Role.RESEARCHER
        ),
        *sign_in.routes(),
        *Media(study, audit, previews or Previews(settings.video)).routes(),
        *StudyPages(study, audit, pages, accounts, daemon).routes(),
        *Desk(study, audit, pages, accounts).routes(),
        *more_routes(pages, audit),
        GuardedMount(
            DAGSTER, DagsterAccess(DAGSTER, dagster.full, dagster.read_only, launched), role=Role.RESEARCHER
        ),
    ]

    def warehouse_trouble(request: Request, error: Exception) -> Response:
        return pages.show(request, "trouble.html.jinja", "Not now", 503, problem=without_folders(str(error)))

    public = [server.public_url.rstrip("/").lower()] if server.public_url else []
    hosts = {*LOCAL_NAMES, *server.allowed_hosts, *(host_name(url.split("://", 1)[1]) for url in public)}
    troubles = (WarehouseError, LockTimeout, StudyFolderError, AuditError)
    application = Starlette(
        routes=routes,
        exception_handlers=dict.fromkeys(troubles, warehouse_trouble),
        middleware=[
            Middleware(SafeHeaders, https=server.https),
            Middleware(AllowedHosts, hosts=hosts),
            Middleware(SameOrigin, origins=public),
            # carries state and nonce to the identity provider and back, nothing else
            Middleware(
                SessionMiddleware, secret_key=secrets.token_urlsafe(32), session_cookie="iss_oidc",
                same_site="lax", https_only=server.https, max_age=600,
            ),
            Middleware(Guard, routes=routes, find=sign_in.find),
        ],
    )  # fmt: skip
    application.state.study = study
    if not accounts.all() and not server.oidc_issuer:
        links.renew()
    return application
