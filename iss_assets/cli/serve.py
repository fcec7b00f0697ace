"""``iss serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.options import Home, Study, load_settings, user_errors
from iss_assets.server.serving import ServeError
from iss_assets.server.serving import serve as serve_application

Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on (ISS_SERVER__HOST).", show_default="this machine only"),
]
Port = Annotated[int | None, typer.Option(help="Port to listen on (ISS_SERVER__PORT).", show_default="3000")]


def serve(study: Study = None, home: Home = None, host: Host = None, port: Port = None) -> None:
    """Serve the web application: sign-in, study pages, Dagster's UI, and the daemon that picks up new submissions."""
    settings = load_settings(study, home)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    with user_errors(ServeError):
        server = type(settings.server).model_validate({**settings.server.model_dump(), **given})
        settings = settings.model_copy(update={"server": server})
        status = serve_application(settings, typer.echo)
    raise typer.Exit(status)
