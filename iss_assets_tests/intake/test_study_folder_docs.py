"""The page about the study folder says what the reader does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import iss_assets.intake
from iss_assets.intake.consents import OPTIONAL as CONSENT_OPTIONAL
from iss_assets.intake.consents import REQUIRED as CONSENT_REQUIRED
from iss_assets.intake.folder import read_study
from iss_assets.intake.folder_tables import (
    ENROLLMENT_OPTIONAL,
    ENROLLMENT_REQUIRED,
    SURVEY_OPTIONAL,
    SURVEY_REQUIRED,
)
from iss_assets.intake.folder_videos import EXTENSIONS, THERMAL_EXTENSIONS
from iss_assets.settings import Settings
from iss_assets_tests.intake.conftest import MakeStudy

PAGE = (Path(__file__).parents[2] / "docs" / "study_folder.md").read_text("utf-8")
SOURCES = Path(iss_assets.intake.__path__[0])


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_code_is_explained() -> None:
    files = ("cells", "consents", "csv_reading", "folder", "folder_tables", "folder_videos", "prompts")
    source = "\n".join((SOURCES / f"{name}.py").read_text("utf-8") for name in files)
    codes = set(re.findall(r"(?:CellError|\.add|reject)\(\s*(?:rejected,\s*file,\s*)?\"([a-z_]+)\"", source))
    codes |= set(re.findall(r"^\s*(?:code|fault) = \"([a-z_]+)\"", source, re.MULTILINE))
    assert len(codes) > 25
    assert {code for code in codes if not re.search(rf"\b{code}\b", PAGE)} == set()


def test_every_column_and_ending_is_named() -> None:
    for name in (
        *ENROLLMENT_REQUIRED,
        *ENROLLMENT_OPTIONAL,
        *SURVEY_REQUIRED,
        *SURVEY_OPTIONAL,
        *CONSENT_REQUIRED,
        *CONSENT_OPTIONAL,
        *EXTENSIONS,
        *THERMAL_EXTENSIONS,
    ):
        assert re.search(rf"\b{name}\b", PAGE), name


def test_its_example_tables_are_read_without_a_word(make_study: MakeStudy) -> None:
    enrollment, surveys, _, consent, prompts = blocks("csv")
    videos = ["0007/0007-01.mp4", "0007/0007-01_prompt.mp4", "0007/0007-02.mov"]
    root = make_study(enrollment, surveys, videos)
    (root / "consent.csv").write_text(consent)
    (root / "prompts.csv").write_text(prompts)
    study = read_study(root)
    assert study.rejected == ()
    assert [(p.code, p.patient_id) for p in study.problems] == [("no_submissions", "0008")]
    assert len(study.videos) == 2
    assert [c.patient_id for c in study.consents] == ["0007", "0007", "0007", "0008"]
    assert [p.prompt_id for p in study.prompts] == ["garden", "wind"]


def test_its_example_settings_are_understood(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "iss.toml").write_text(blocks("toml")[0])
    monkeypatch.setenv("ISS_HOME", str(tmp_path))
    reading = Settings().reading
    enrollment, surveys = blocks("csv")[:2]
    enrollment = enrollment.replace("patient_id", "record_id").replace("skin_type", "fitzpatrick")
    study = read_study(make_study(enrollment.replace("F,V", "2,5"), surveys.replace(",yes,", ",2,")), reading)
    assert study.patient("0007").sex == "F"
    assert study.submissions[0].chronic_pain is False
