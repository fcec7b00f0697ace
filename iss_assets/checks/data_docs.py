"""Great Expectations' pages made to be read without the internet.

Belongs here: taking what is fetched from elsewhere out of the Data Docs, and the plain style that takes its place.
Does not belong here: what the pages say.

As they come, the pages load scripts, styles and pictures from nine hosts. A study's pages shall tell nobody that they
are being read, and look right on a machine in a clinic that reaches none of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_FETCHED: Final = re.compile(
    r"""<script\b[^>]*\bsrc\s*=\s*["']https?://[^>]*>.*?</script>|<link\b[^>]*\bhref\s*=\s*["']https?://[^>]*>"""
    r"""|<img\b[^>]*\bsrc\s*=\s*["']https?://[^>]*>|<iframe\b.*?</iframe>""",
    re.IGNORECASE | re.DOTALL,
)
_STYLE: Final = """<style>
body { font-family: system-ui, sans-serif; margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #ddd; padding: .35rem .7rem; text-align: left; vertical-align: top; }
h1, h2, h3, h4, h5 { font-weight: 600; margin: 1rem 0 .4rem; }
ul, ol { padding-left: 1.2rem; } .breadcrumb, .nav { list-style: none; padding: 0; display: flex; gap: .6rem; }
a { color: #0b5cad; text-decoration: none; } a:hover { text-decoration: underline; }
.badge { border-radius: .4rem; padding: .1rem .45rem; background: #eee; } .text-success { color: #1a7f37; }
.text-danger { color: #b42318; } .text-warning { color: #a15c00; } .alert { background: #f5f5f5; padding: .5rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } .cooltip .top, .modal, .ge-index-page-navbar-icon { display: none; }
.fa-check-circle::before { content: "\\2713"; color: #1a7f37; } .fa-times::before { content: "\\2717"; color: #b42318; }
.fa-exclamation-triangle::before { content: "!"; color: #a15c00; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } th, td { border-color: #444; }
  .alert, .badge { background: #2a2a2a; } a { color: #7ab7ff; } }
</style>
"""


def tidy_pages(folder: Path) -> None:
    """Take everything that is fetched from elsewhere out of every page of a folder."""
    for page in folder.rglob("*.html"):
        text = _FETCHED.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text.replace("</head>", f"{_STYLE}</head>", 1), encoding="utf-8")
