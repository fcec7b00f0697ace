"""``iss guide``."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.options import user_errors
from iss_assets.shipped import shipped_folder


def guide(page: Annotated[str, typer.Argument(help="Page to print; without one, list them.")] = "") -> None:
    """Print a page of the documentation: what a study folder holds, what each check, table and setting means."""
    pages = {path.stem: path for path in sorted(shipped_folder("docs").glob("*.md"))}
    with user_errors():
        if page and page not in pages:
            raise ValueError(f"there is no page {page!r}; there are: {', '.join(pages)}")
    text = pages[page].read_text(encoding="utf-8") if page else "\n".join(pages)
    typer.echo(text.rstrip())
