"""The one way from a template to a page: one Jinja environment, and pages that are put in place whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("iss_assets.reports"),
        autoescape=lambda name: bool(name) and str(name).endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(template: str, context: Mapping[str, Any], path: Path) -> Path:
    """Fill a template and put the page in place in one step, so that nobody reads half of it.

    Parameters
    ----------
    template : str
        File in ``templates/``.
    context : mapping
        Its values; everything is escaped unless it is marked as safe.
    path : Path
        The page; its folder is made.

    Returns
    -------
    Path
        `path`.
    """
    page = _environment().get_template(template).render(**context)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path
