"""The pages that are made from code are what the code would make now, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iss_assets.protocol.flags import FLAGS
from iss_assets.reports.settings_page import settings_page
from iss_assets.schemas.dictionary import data_dictionary

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def test_the_data_dictionary_is_current() -> None:
    assert (DOCS / "data_dictionary.md").read_text(encoding="utf-8") == data_dictionary(), "run: iss docs"


def test_the_page_of_settings_is_current() -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_page(), "run: iss docs"


def test_the_page_of_quality_names_every_flag() -> None:
    text = (DOCS / "quality.md").read_text(encoding="utf-8")
    assert [flag for flag in FLAGS if f"`{flag}`" not in text] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []
