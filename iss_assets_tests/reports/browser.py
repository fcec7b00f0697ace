"""A real browser for tests of pages: what a script on a page returns, at a given width.

`make test` installs one where it may. Elsewhere these tests are skipped, and the last lines of the output say so; in CI
(``CI`` is set) a missing browser is a failure.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "there is no Chromium or Chrome to open pages in"


def in_browser(page: str, script: str, tmp_path: Path) -> Any:
    """Run a script on a page and return what it returns."""
    report = f"<script>document.title = JSON.stringify((function () {{ {script} }})());</script></body>"
    return _title(page.replace("</body>", report), tmp_path)


def in_frame(page: str, width: int, script: str, tmp_path: Path) -> Any:
    """Show a page in a frame of a width in pixels, and return what a script returns; `view` is the frame's window."""
    frame = f'<iframe id="frame" style="width:{width}px;height:800px;border:0" srcdoc="{html.escape(page)}"></iframe>'
    run = (
        'addEventListener("load", function () { var view = document.getElementById("frame").contentWindow; '
        f"document.title = JSON.stringify((function () {{ {script} }})()); }});"
    )
    return _title(f"<!doctype html><title></title><body>{frame}<script>{run}</script></body>", tmp_path)


def _title(page: str, tmp_path: Path) -> Any:
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail(f"{NO_BROWSER}, and in CI no test is skipped for that")
        pytest.skip(NO_BROWSER)
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            f"file://{file}",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found is not None
    return json.loads(html.unescape(found.group(1)))
