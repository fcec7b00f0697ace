"""Filling the application's own templates, and serving the report pages of the home."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

from iss_assets.reports.templating import chart_style, environment
from iss_assets.server.accounts import Role

STATIC: Final = Path(__file__).parent / "static"
_STATIC_NAME: Final = re.compile(r"[a-z_]+\.(css|js|svg)")
_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; script-src "
)


class Pages:
    """The application's own pages.

    Parameters
    ----------
    invented : bool
        Whether the study's patients are invented; every page then says so.
    """

    def __init__(self, invented: bool = False) -> None:
        self._invented = invented
        self._environment = environment("iss_assets.server")

    def show(self, request: Request, template: str, title: str, status: int = 200, **values: Any) -> Response:
        """Fill a template of this package.

        Parameters
        ----------
        request : Request
            Who asks: the page shows only what that role may use.
        template : str
            File in ``templates/``.
        title : str
            Heading and window title.
        status : int
            HTTP status.
        **values
            What the template wants.
        """
        session = getattr(request.state, "session", None)
        context: Mapping[str, Any] = {
            "title": title,
            "session": session,
            "coordinator": bool(session and session.role.includes(Role.COORDINATOR)),
            "admin": bool(session and session.role.includes(Role.ADMIN)),
            "invented": self._invented,
            "here": request.url.path,
            **values,
        }
        return HTMLResponse(self._environment.get_template(template).render(**context), status)


def static_file(request: Request) -> Response:
    """Serve a style sheet or a script of this package."""
    name = request.path_params["name"]
    if name == "charts.css":
        return Response(chart_style(), media_type="text/css", headers={"Cache-Control": "no-cache"})
    path = STATIC / name
    if not _STATIC_NAME.fullmatch(name) or not path.is_file():
        return PlainTextResponse("There is no such file.\n", 404)
    return FileResponse(path, headers={"Cache-Control": "no-cache"})


def report_file(folder: Path, request: Request) -> Response:
    """Serve a file below the reports folder: nothing hidden, nothing that a link leads to elsewhere."""
    wanted = request.path_params["path"]
    parts = [part for part in wanted.split("/") if part]
    if any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return PlainTextResponse("There is no such page.\n", 404)
    root = folder.resolve()
    path = root.joinpath(*parts)
    if path.is_dir():
        path = path / "index.html"
    if not path.resolve().is_relative_to(root) or not path.is_file():
        return PlainTextResponse("There is no such page.\n", 404)
    if path.suffix != ".html":
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return FileResponse(path, media_type=kind)
    page = path.read_bytes()
    return HTMLResponse(
        page, headers={"Content-Security-Policy": _REPORT_POLICY + (script_hashes(page) or "'none'")}
    )


def script_hashes(page: bytes) -> str:
    """Return what allows exactly the scripts that a page brings with it, for its Content Security Policy."""
    found = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in _SCRIPT.findall(page))
    return " ".join(f"'sha256-{one}'" for one in found)
