"""The one way from data to a page: one Jinja environment, one frame around every page, one atomic write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from iss_assets.atomic import replace_text

STUDY: Final = "Intelligent Sight and Sound"
"""The name of the study, unless a page gives another."""


@dataclass(frozen=True)
class Banner:
    """A warning above everything else; `kind` is empty or ``bad``."""

    head: str
    text: str = ""
    kind: str = ""


INVENTED: Final = Banner("Invented patients.", "Nothing on this page was measured on a person.")
"""What a page of the sample study says first."""


@dataclass(frozen=True)
class Frame:
    """What every page has around its content.

    Attributes
    ----------
    title
        The heading.
    kind
        What the page is, or for whom, in a few words above the heading.
    made_at
        When the page was made; now if None.
    study
        Name of the study.
    notes
        Further facts of the line below the heading, such as software versions.
    banners
        Warnings above the content.
    """

    title: str
    kind: str
    made_at: datetime | None = None
    study: str = STUDY
    notes: Sequence[str] = ()
    banners: Sequence[Banner] = ()

    @property
    def meta(self) -> str:
        """The line below the heading: the study unless it is the heading, when the page was made, the notes."""
        made = f"made {self.made_at or datetime.now(UTC):%-d %B %Y, %H:%M} UTC"
        line = " · ".join([*([self.study] if self.study != self.title else []), made, *self.notes])
        return line[0].upper() + line[1:]


def count(number: int, what: str) -> str:
    """Return a number with what is counted, in the plural unless it is one."""
    return f"{number} {what}{'' if number == 1 else 's'}"


@cache
def environment(*packages: str) -> Environment:
    """Return the environment of the report templates, with those of further packages in front."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (*packages, "iss_assets.reports")]),
        autoescape=lambda name: bool(name) and str(name).endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def picture_style() -> str:
    """Return the chart rules of the style sheet with the light colors filled in, for a chart outside of any page."""
    values, rules = _chart_rules()
    light = {name: re.sub(r"light-dark\(([^,]+),.*\)", r"\1", value) for name, value in values.items()}
    return re.sub(r"var\((--[\w-]+)\)", lambda found: light[found[1]], rules).strip()


@cache
def chart_style() -> str:
    """Return the chart rules of the style sheet as a sheet of its own, for charts on pages with another design."""
    values, rules = _chart_rules()
    own = " ".join(f"{name}: {value};" for name, value in values.items())
    return f"svg.chart {{ {own} }}\n{re.sub(r'^svg ', 'svg.chart ', rules.strip(), flags=re.MULTILINE)}\n"


def _chart_rules() -> tuple[dict[str, str], str]:
    """Return the custom properties of the style sheet, and its rules for charts."""
    loader = environment().loader
    assert loader is not None
    sheet, _, _ = loader.get_source(environment(), "style.css")
    _, _, rest = sheet.partition("/* charts */")
    rules, _, _ = rest.partition("/* end of charts */")
    return dict(re.findall(r"(--[\w-]+): ([^;]+);", sheet.partition("}")[0])), rules


def write_page(template: str, frame: Frame, context: Mapping[str, Any], path: Path) -> Path:
    """Fill a template and replace the page in one step, so that nobody reads half of it.

    Parameters
    ----------
    template : str
        File in ``templates/``.
    frame : Frame
        What is around the content.
    context : mapping
        The content; everything is escaped unless it is marked as safe.
    path : Path
        The page; its folder is created.

    Returns
    -------
    Path
        `path`.
    """
    page = environment().get_template(template).render(page=frame, **context)
    replace_text(path, page)
    return path
