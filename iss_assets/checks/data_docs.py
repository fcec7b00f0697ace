"""Great Expectations' Data Docs, rewritten to work without the internet.

The original pages load scripts, styles and images from nine hosts. A study's pages must not reveal to anyone that they
are being read, and must look right on a clinic's machine that reaches none of these hosts. So external resources are
removed and replaced by one plain style. The original first page is empty without its scripts; a new one lists every
suite, what it missed, and the rows it looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from iss_assets.atomic import replace_text
from iss_assets.checks.findings import Finding

_FETCHED: Final = re.compile(
    r"""<script\b[^>]*\bsrc\s*=\s*["']https?://[^>]*>.*?</script>|<link\b[^>]*\bhref\s*=[^>]*>"""
    r"""|<img\b[^>]*\bsrc\s*=\s*["']https?://[^>]*>|<iframe\b.*?</iframe>|<footer>.*?</footer>""",
    re.IGNORECASE | re.DOTALL,
)
_STYLE: Final = """<style>
body { font-family: system-ui, sans-serif; margin: 1.5rem auto; max-width: 62rem; padding: 0 1rem; color: #222;
  line-height: 1.45; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.6rem; } h2, h4 { font-size: 1.2rem; } h5, h6 { font-size: 1rem; }
h1, h2, h3, h4, h5, h6 { font-weight: 600; margin: 1.2rem 0 .4rem; }
ul, ol { padding-left: 1.2rem; } .breadcrumb { list-style: none; padding: 0; display: flex; gap: .6rem; }
nav.navbar { height: auto !important; }
a { color: #0b5cad; text-decoration: none; } a:hover { text-decoration: underline; }
.badge { border-radius: .4rem; padding: .1rem .45rem; background: #eee; }
.text-success, .met { color: #1a7f37; } .text-danger, .missed { color: #b42318; } .text-warning { color: #a15c00; }
.alert { border-top: 2px solid #ddd; }
.card, .collapse, .modal, .cooltip .top, [data-toggle=collapse], .ge-index-page-navbar-icon { display: none; }
.fa-check-circle::before { content: "\\2713"; color: #1a7f37; } .fa-times::before { content: "\\2717"; color: #b42318; }
.fa-exclamation-triangle::before { content: "!"; color: #a15c00; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } th, td, .alert { border-color: #444; }
  .badge { background: #2a2a2a; } a { color: #7ab7ff; } .text-success, .met { color: #5fd08a; }
  .text-danger, .missed { color: #ff9a8f; } }
</style>
"""


def tidy_pages(folder: Path) -> None:
    """Remove everything that is loaded from elsewhere from every page of a folder."""
    for page in folder.rglob("*.html"):
        text = _FETCHED.sub("", page.read_text(encoding="utf-8"))
        replace_text(page, text.replace("</head>", f"{_STYLE}</head>", 1))


def write_index(folder: Path, titles: Mapping[str, str], found: Mapping[str, Finding | Exception]) -> None:
    """Write the first page, replacing the one by Great Expectations.

    Parameters
    ----------
    folder : Path
        Folder of the Data Docs.
    titles : mapping
        Suite to what its failure means.
    found : mapping
        Suite to its finding, or to the error that kept it from running.
    """
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>What is expected of the study</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        _STYLE,
        "</head><body><h1>What is expected of the study</h1>",
        "<p>Great Expectations suites about the study as a whole: counts and rates only, nothing about a single patient.</p>",
    ]
    for suite, title in titles.items():
        parts += [f'<h2 id="{suite}">{escape(title)}</h2>', *_section(folder, suite, found[suite])]
    parts.append("</body></html>")
    replace_text(folder / "index.html", "\n".join(parts))


def _section(folder: Path, suite: str, found: Finding | Exception) -> list[str]:
    pages = [
        (name, page.relative_to(folder).as_posix())
        for name, pattern in (
            ("expectations", f"expectations/{suite}.html"),
            ("results", f"validations/{suite}/**/*.html"),
        )
        for page in sorted(folder.glob(pattern))
    ]
    links = " · ".join(f'<a href="{escape(target)}">{name}</a>' for name, target in pages)
    if isinstance(found, Exception):
        verdict = '<p class="missed">✗ The suite could not run; its run in the UI says why.</p>'
        return [verdict, f"<p>{links}</p>"]
    missed, for_information = found.numbers["missed"], found.numbers["for information"]
    counted = found.numbers["expectations"] - len(for_information)
    verdict = (
        f'<p class="met">✓ Passed: {f"all {counted} expectations are" if counted > 1 else "the expectation is"} met.</p>'
        if found.passed
        else f'<p class="missed">✗ Failed: {len(missed)} of {counted} expectations not met.</p>'
    )
    notes = [f"<li>{escape(note)}</li>" for note in missed]
    notes += [f"<li>{escape(note)} (for information)</li>" for note in for_information]
    return [
        verdict,
        *(["<ul>", *notes, "</ul>"] if notes else []),
        *_table(found.numbers["rows"]),
        f"<p>{links}</p>",
    ]


def _table(rows: list[dict[str, Any]]) -> Iterable[str]:
    if not rows:
        return ["<p>There is no data yet.</p>"]
    cells = [[(_shown(value), isinstance(value, int | float)) for value in row.values()] for row in rows]
    heads = zip(rows[0], cells[0], strict=True)
    return [
        "<table><thead><tr>",
        *(f"<th{_CLASS[number]}>{escape(name.replace('_', ' '))}</th>" for name, (_, number) in heads),
        "</tr></thead><tbody>",
        *(
            "<tr>" + "".join(f"<td{_CLASS[number]}>{escape(text)}</td>" for text, number in row) + "</tr>"
            for row in cells
        ),
        "</tbody></table>",
    ]


_CLASS: Final = {True: ' class="n"', False: ""}


def _shown(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.3f}"
    return "" if value is None else str(value)
