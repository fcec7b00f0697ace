"""``iss docs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iss_assets.cli.options import print_error, user_errors
from iss_assets.reports.checks_page import checks_page
from iss_assets.reports.licenses_page import licenses_page, requirements_of
from iss_assets.reports.settings_page import settings_page
from iss_assets.schemas.dictionary import data_dictionary
from iss_assets.shipped import shipped_folder


def docs(
    check: Annotated[bool, typer.Option("--check", help="Only report whether docs/ is current.")] = False,
    directory: Annotated[Path, typer.Option(help="Folder of the docs.")] = Path("docs"),
) -> None:
    """Write the data dictionary, the pages of settings and licenses, and the tables of checks from the code."""
    with user_errors():
        if not directory.is_dir():
            raise ValueError(f"there is no folder {directory.name!r}")
        pages = {
            "checks.md": checks_page(_checks_now(directory)),
            "data_dictionary.md": data_dictionary(),
            "licenses.md": licenses_page(requirements_of(directory.absolute().parent / "pyproject.toml")),
            "settings.md": settings_page(),
        }
    stale = []
    for name, text in pages.items():
        path = directory / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print_error(f"not current: {', '.join(stale)}; run: iss docs")
        raise typer.Exit(1)
    typer.echo(f"written: {', '.join(stale)}" if stale else "current")


def _checks_now(directory: Path) -> str:
    """Read the page on checks, whose text is written by hand around its tables; the shipped one in a new folder."""
    page = directory / "checks.md"
    return (page if page.exists() else shipped_folder("docs") / "checks.md").read_text(encoding="utf-8")
