"""The pages that are made from code are what the code would make now, and links lead somewhere."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest

from iss_assets.protocol.flags import FLAGS
from iss_assets.protocol.licenses import BUNDLED, MODELS, OBLIGATIONS
from iss_assets.reports.checks_page import BEGIN, END, checks_page
from iss_assets.reports.licenses_page import license_of, licenses_page, requirements_of
from iss_assets.reports.settings_page import settings_page
from iss_assets.schemas.dictionary import data_dictionary

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def test_the_data_dictionary_is_current() -> None:
    assert (DOCS / "data_dictionary.md").read_text(encoding="utf-8") == data_dictionary(), "run: iss docs"


def test_the_page_of_settings_is_current() -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_page(), "run: iss docs"


def test_the_page_of_licenses_is_current() -> None:
    page = licenses_page(requirements_of(ROOT / "pyproject.toml"))
    assert (DOCS / "licenses.md").read_text(encoding="utf-8") == page, "run: iss docs"


def test_the_page_of_licenses_names_what_is_asked_of_it() -> None:
    page = licenses_page([("", "soxr"), ("thermal", "packaging>=1")])
    assert f"| packaging | {metadata.version('packaging')} | " in page and "| thermal |" in page
    assert f"| soxr | {metadata.version('soxr')} | LGPL-2.1-or-later |" in page
    for model in MODELS:
        assert f"| {model.name} | {model.purpose} | {model.license} | " in page
        assert f"{model.package} {metadata.version(model.package)}" in page
    with pytest.raises(ValueError, match="no-such-package is not installed"):
        licenses_page([("", "no-such-package")])


_MORE_THAN_A_NOTICE = re.compile(
    r"GPL|General Public|MPL|Mozilla|EUPL|European|Proprietary|Non-?Commercial|\bNC\b|^$", re.IGNORECASE
)


def test_every_package_has_a_license_that_is_permissive_or_whose_obligations_are_on_the_page() -> None:
    """Follow every requirement, of developers' tools as well."""
    locked = re.findall(r"(?m)^([\w.-]+)==", (ROOT / "requirements.txt").read_text("utf-8"))
    assert len(locked) > 100
    stated = {name: license_of(name) for name in locked}
    found = {name for name, text in stated.items() if _MORE_THAN_A_NOTICE.search(text)}
    explained = {name: [o for o in OBLIGATIONS if fnmatch(name, o)] for name in locked}
    assert found == {name for name, entries in explained.items() if entries}
    assert {entry for entries in explained.values() for entry in entries} == set(OBLIGATIONS)


_COPYLEFT_LIBRARIES = re.compile(
    r"/lib(avcodec|x264|x265|Qt5Core|sndfile|mpg123|gomp|gfortran|quadmath)[-_.\w]*\.so"
)


def test_every_package_whose_wheel_contains_a_copyleft_library_is_on_the_page() -> None:
    locked = re.findall(r"(?m)^([\w.-]+)==", (ROOT / "requirements.txt").read_text("utf-8"))
    found = {
        name
        for name in locked
        if any(_COPYLEFT_LIBRARIES.search(f"/{file}") for file in metadata.distribution(name).files or ())
    }
    assert {"av", "soundfile"} <= found and found == set(BUNDLED)


def test_every_test_that_enforces_a_promise_of_privacy_exists() -> None:
    page = (DOCS / "privacy.md").read_text("utf-8")
    tests = ROOT / "iss_assets_tests"
    sources = {
        path.relative_to(tests).as_posix(): path.read_text("utf-8") for path in tests.rglob("test_*.py")
    }
    defined = set(re.findall(r"(?m)^def (test_\w+)", "\n".join(sources.values())))
    files = set(re.findall(r"`((?:\w+/)*test_\w+\.py)`", page))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(files) > 20 and files <= set(sources)
    assert len(named) > 40 and named <= defined, named - defined


def test_the_page_on_checks_is_current() -> None:
    page = (DOCS / "checks.md").read_text(encoding="utf-8")
    assert page == checks_page(page), "run: iss docs"


def test_only_the_tables_of_the_page_on_checks_are_written() -> None:
    written = checks_page(f"# Mine\n\n{BEGIN}\nan old table\n{END}\n\nMore of mine.\n")
    assert written.startswith(f"# Mine\n\n{BEGIN}\n\n### On `patients`\n")
    assert written.endswith(f" |\n\n{END}\n\nMore of mine.\n")
    assert "an old table" not in written
    for flag in FLAGS:
        assert f"`{flag}`" in written


@pytest.mark.parametrize("lost", [BEGIN, END])
def test_a_page_on_checks_without_a_place_for_the_tables_is_left_alone(lost: str) -> None:
    with pytest.raises(ValueError, match="comment lines"):
        checks_page(f"{BEGIN}\n{END}\n".replace(lost, ""))


def test_the_page_of_quality_names_every_flag() -> None:
    text = (DOCS / "quality.md").read_text(encoding="utf-8")
    assert [flag for flag in FLAGS if f"`{flag}`" not in text] == []


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted(DOCS.glob("*.md"))],
    ids=lambda p: f"{p.parent.name}/{p.name}",
)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")


def test_every_path_on_the_architecture_page_exists() -> None:
    named = set(re.findall(r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)*(?:\.py|/)(?![\w/])", ARCHITECTURE))
    assert len(named) > 50
    assert {p for p in named if not any((root / p).exists() for root in (ROOT / "iss_assets", ROOT))} == set()


def test_every_name_that_answers_a_question_is_in_the_file_it_is_said_to_be_in() -> None:
    answers = ARCHITECTURE.split("## Where is ...")[1].split("## ")[0]
    named = re.findall(r"`([\w/]+\.py)`, `(\w+)`", answers)
    assert len(named) >= 6
    lost = [
        f"{path}: {name}"
        for path, name in named
        if not re.search(
            rf"(?:def |class )?\b{name}\b(?:: .*)? ?[=(:]", (ROOT / "iss_assets" / path).read_text("utf-8")
        )
    ]
    assert lost == []


def test_the_architecture_page_has_a_line_for_every_package() -> None:
    layers = ARCHITECTURE.split("## Layers")[1].split("## ")[0]
    lines = re.findall(r"^\| `(\w+)/` \|", layers, flags=re.MULTILINE)
    assert sorted(lines) == sorted(p.parent.name for p in (ROOT / "iss_assets").glob("*/__init__.py"))
