"""What is in a release of each tier, and what never is."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from iss_assets.privacy.release.columns import KINDS, RELEASED_IN, Kind, Tier, columns_of, kind_of, tables_of
from iss_assets.privacy.release.make import Released
from iss_assets.protocol.recordings import recording_of
from iss_assets.schemas.audio import AudioFeatures
from iss_assets.schemas.base import column
from iss_assets.schemas.intake import Patients
from iss_assets.schemas.registry import BY_NAME, TABLES
from iss_assets.schemas.words import TEXT_MEASURES
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.privacy.release.conftest import MARK, PATIENTS, Make, read

PICTURES_AND_SOUND = {("faces", "crop"), ("audio", "waveform"), ("mel_spectrograms", "mel")}


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.__table__)
def test_every_column_of_every_table_has_a_kind(table: Any) -> None:
    missing = [c.name for c in table.columns() if kind_of(table.__table__, c.name) is None]
    assert not missing, f"say in privacy/release/columns.py what these are: {missing}"


def test_no_kind_is_given_to_a_column_that_does_not_exist() -> None:
    unknown = {
        (name, c)
        for name, kinds in KINDS.items()
        for c in kinds
        if name not in BY_NAME or c not in {x.name for x in BY_NAME[name].columns()}
    }
    assert not unknown


def test_a_new_column_is_withheld_from_every_tier_until_somebody_decides() -> None:
    class Extended(Patients):
        """One enrolled patient."""

        street: object = column("VARCHAR", "Where the patient lives.")

    for tier in Tier:
        names = [c.name for c in columns_of(Extended, tier, landmarks=True)]
        assert "street" not in names
        assert "patient_id" in names


def test_sentences_file_names_places_hashes_and_runs_are_in_no_tier() -> None:
    for kind in (Kind.FREE_TEXT, Kind.FILE, Kind.PLACE, Kind.LINK, Kind.RUN):
        assert not RELEASED_IN[kind]


def test_the_controlled_tier_has_pictures_sound_and_spectrograms(released: dict[str, Released]) -> None:
    tables = read(released["controlled"].folder)
    assert {(t, c) for t, c in PICTURES_AND_SOUND if c in tables[t].column_names} == PICTURES_AND_SOUND
    assert tables["faces"].num_rows == PATIENTS * 12
    assert all(crop for crop in tables["faces"]["crop"].to_pylist())
    assert sorted(set(tables["audio_features"]["chunk_index"].to_pylist())) == [-1, 0, 1]


def test_the_registered_tier_has_nothing_to_see_or_to_hear(
    released: dict[str, Released], study_home: Path
) -> None:
    folder = released["registered"].folder
    tables = read(folder)
    assert not {(t, c) for t, c in PICTURES_AND_SOUND if t in tables and c in tables[t].column_names}
    assert not {"landmarks", "embeddings", "mel_spectrograms"} & tables.keys()
    # a series of MFCC would let speech be reconstructed: only the means of whole videos are there
    assert set(tables["audio_features"]["chunk_index"].to_pylist()) == {-1}
    assert tables["audio_features"].num_rows == PATIENTS * 2
    binary = [(t, f.name) for t, rows in tables.items() for f in rows.schema if "binary" in str(f.type)]
    assert not binary
    assert {"bpi_scores", "videos", "frames", "audio_features", "cv_splits"} <= tables.keys()


def test_landmarks_are_in_the_registered_tier_only_by_setting_and_with_a_warning(release: Make) -> None:
    with_meshes = release("registered", landmarks=True)
    points = read(with_meshes.folder)["landmarks"]["points"].to_pylist()
    assert {len(p) for p in points if p is not None} == {1404}
    card = (with_meshes.folder / "README.md").read_text()
    assert "> Face meshes are in this release." in card
    assert "From landmarks (face meshes)," in card


@pytest.mark.parametrize("landmarks", [False, True])
def test_where_networks_looked_goes_with_what_they_read_and_only_its_summary_further(landmarks: bool) -> None:
    released = {tier: {t.__table__ for t in tables_of(tier, landmarks)} for tier in Tier}
    assert [tier for tier in Tier if "check_in_attention" in released[tier]] == [Tier.controlled]
    assert [tier for tier in Tier if "video_attention" in released[tier]] == [Tier.controlled]
    assert "check_in_shortcuts" in released[Tier.registered] - released[Tier.open]


def test_the_open_tier_has_nothing_below_the_patient(released: dict[str, Released]) -> None:
    tables = read(released["open"].folder)
    below = {
        "video_id",
        "submission_id",
        "frame_index",
        "chunk_index",
        "submitted_at",
        "enrolled_on",
        "pain_target",
    }
    assert not {(t, c) for t, rows in tables.items() for c in rows.column_names if c in below}
    assert tables["patients"].num_rows == PATIENTS


def test_the_open_tier_has_no_figure_about_what_was_said() -> None:
    told = {"transcripts", "transcript_words", "transcript_spans", "text_features"}
    of_tier = {
        tier: {recording_of(table.__table__)[1] for table in tables_of(tier, landmarks=True)} & told
        for tier in Tier
    }
    assert of_tier == {Tier.open: set(), Tier.registered: {"text_features"}, Tier.controlled: told}
    assert Tier.open not in RELEASED_IN[Kind.SPEECH]
    assert {kind_of("text_features", name) for name in (*TEXT_MEASURES, "pain_words", "hesitations")} == {
        Kind.SPEECH
    }


@pytest.mark.parametrize("tier", Tier)
def test_no_id_file_name_hash_or_sentence_of_the_study_is_anywhere(
    released: dict[str, Released], tier: Tier
) -> None:
    folder = released[tier].folder
    for path in folder.iterdir():
        # names of files, JSON, Markdown, and the statistics and schemas in Parquet files
        assert MARK not in path.name
        assert MARK.encode() not in path.read_bytes()
    for name, rows in read(folder).items():
        assert MARK not in str(rows.to_pydict()), name


@pytest.mark.parametrize("tier", ["registered", "controlled"])
def test_numbers_inside_json_stay_and_text_goes(released: dict[str, Released], tier: str) -> None:
    tables = read(released[tier].folder)
    assert set(tables["video_quality"]["measures"].to_pylist()) == {'{"dark_share": 0.25}'}
    assert tables["fold_models"]["settings"].to_pylist() == ['{"seed": 3}']
    assert '"No Pain": 0.5' in tables["patient_accuracy"]["predicted_shares"][0].as_py()


def test_an_id_in_a_column_of_words_stops_the_release_and_leaves_nothing(
    release: Make, study_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(study_home, home)
    with Warehouse(home / "warehouse.duckdb").write() as writer:
        writer.execute(
            "update videos set codec = video_id where video_id = (select min(video_id) from videos)"
        )
    with pytest.raises(ValueError, match="column codec of videos holds an id of the study"):
        release("registered", home=home, to=tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]


def test_lists_of_patients_have_pseudonyms(released: dict[str, Released]) -> None:
    tables = read(released["registered"].folder)
    known = set(tables["patients"]["patient_id"].to_pylist())
    (fold,) = tables["fold_models"].to_pylist()
    assert len(fold["train_patients"]) == len(fold["test_patients"]) == 1
    assert {*fold["train_patients"], *fold["test_patients"]} <= known


def test_pseudonyms_are_stable_within_an_agreement_and_unlinkable_between_two(
    release: Make, released: dict[str, Released]
) -> None:
    def ids(folder: Path) -> tuple[set[str], set[str], set[tuple[str, date]]]:
        tables = read(folder)
        return (
            set(tables["patients"]["patient_id"].to_pylist()),
            set(tables["videos"]["video_id"].to_pylist()),
            set(
                zip(
                    tables["patients"]["patient_id"].to_pylist(),
                    tables["patients"]["enrolled_on"].to_pylist(),
                    strict=True,
                )
            ),
        )

    first, again = ids(released["registered"].folder), ids(release("registered").folder)
    other = ids(release("registered", agreement="A2").folder)
    controlled = ids(released["controlled"].folder)
    assert first == again == controlled
    assert len(first[0]) == PATIENTS
    assert not first[0] & other[0] and not first[1] & other[1]
    # the shifts of dates differ, too
    assert {day for _, day in first[2]} != {day for _, day in other[2]}


def shape(day: date, moments: list[datetime]) -> tuple[object, ...]:
    """Return what a shift keeps: weekdays, times of day, intervals."""
    return (
        day.weekday(),
        (moments[0].date() - day).days,
        *(m - moments[0] for m in moments),
        moments[0].time(),
    )


def test_dates_keep_weekdays_and_intervals_and_none_is_real(
    released: dict[str, Released], study_home: Path
) -> None:
    tables = read(released["registered"].folder)
    real = Warehouse(study_home / "warehouse.duckdb").query(
        "select p.enrolled_on, list(b.submitted_at order by b.submitted_at) as times from patients p "
        "join bpi_scores b using (patient_id) group by all"
    )
    times: dict[str, list[Any]] = {}
    for row in tables["bpi_scores"].to_pylist():
        times.setdefault(row["patient_id"], []).append(row["submitted_at"])
    shifted = {r["patient_id"]: r["enrolled_on"] for r in tables["patients"].to_pylist()}
    before = Counter(shape(r["enrolled_on"], r["times"]) for r in real.to_pylist())
    after = Counter(shape(shifted[p], sorted(times[p])) for p in times)
    assert before == after
    # another patient's date may be met by chance, by one or two of these
    enrolled = set(real["enrolled_on"].to_pylist())
    assert len(shifted) > 5
    assert sum(date in enrolled for date in shifted.values()) <= 2
    assert len({(d.year, d.month) for d in shifted.values()}) > 1


@pytest.mark.parametrize("tier", Tier)
def test_every_file_has_the_same_time_and_is_readable_by_its_owner_only(
    released: dict[str, Released], tier: Tier
) -> None:
    folder = released[tier].folder
    found = {(p.stat().st_mtime, p.stat().st_mode & 0o777) for p in folder.iterdir()}
    assert found == {(315532800.0, 0o600)}
    assert folder.stat().st_mtime == 315532800.0


def test_everything_withheld_is_listed_with_a_reason(released: dict[str, Released]) -> None:
    folder = released["registered"].folder
    with (folder / "withheld.csv").open(newline="") as file:
        rows = {(r["table"], r["what"]): r["why"] for r in csv.DictReader(file)}
    assert rows["videos", "problem"] == "sentences: never released"
    assert rows["faces", "crop"] == "picture of a face: not in the registered tier"
    for name, table in read(folder).items():
        gone = {c.name for c in BY_NAME[name].columns()} - set(table.column_names)
        assert {c for t, c in rows if t == name and " " not in c} == gone
    assert AudioFeatures.__table__ in {t for t, _ in rows}
    # what this study never recorded is not said to be withheld
    assert "age group" not in (folder / "README.md").read_text()
    assert not [what for _, what in rows if "age_group" in what]


def test_groups_of_a_withheld_attribute_are_withheld(released: dict[str, Released]) -> None:
    tables = read(released["registered"].folder)
    patients = tables["patients"]
    known = {c for c in ("sex", "cohort") if None not in patients[c].to_pylist()}
    assert set(tables["subgroup_results"]["attribute"].to_pylist()) == known
