"""``iss worker``."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.options import Home, Study, load_settings, user_errors
from iss_assets.pipeline.cluster import QUEUES, require_packages

Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        help=f"Only runs of this queue ({', '.join(QUEUES)}); repeat it for more.",
        show_default="all queues",
    ),
]
AtOnce = Annotated[
    int | None,
    typer.Option("--at-once", min=1, help="Runs executed at the same time.", show_default="ISS_RUN__WORKERS"),
]


def worker(study: Study = None, home: Home = None, queue: Queues = None, at_once: AtOnce = None) -> None:
    """Execute runs of a cluster on this machine until a signal; the first one lets runs that have begun finish.

    Needs ISS_CLUSTER__BROKER and ISS_CLUSTER__STORAGE, and the same home and study folder as the other machines.
    """
    settings = load_settings(study, home)
    with user_errors():
        queues = list(dict.fromkeys(queue or QUEUES))
        if unknown := sorted(set(queues) - set(QUEUES)):
            raise ValueError(f"there is no queue {', '.join(unknown)}; the queues are {', '.join(QUEUES)}")
        require_packages(settings)
        # it needs the packages of the extra
        from iss_assets.pipeline.queue_worker import work

        at_once = at_once or settings.run.workers
        typer.echo(f"Taking runs from {' and '.join(queues)}, {at_once} at a time. Ctrl-C stops it.")
        status = work(settings, queues, at_once)
    raise typer.Exit(status)
