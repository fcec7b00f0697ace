"""External validation (`iss predict`): apply the models in another study's home to this study, without training.

The models' home is only read: its warehouse through a reading connection, its model files, and of its ``iss.toml`` the
settings, which are compared and never used. A command in there would be another site's, so the key of an encrypted
models' home is always named by the caller.

Pictures, sound and measures must be made in the same way in both studies. What decides is not what settings say but what rows
were made with: the ledger of the models' home must have the fingerprints that its files would get here.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pydantic import BaseModel, ValidationError

from iss_assets.datasets.check_ins import MADE_FROM, check_in_inputs
from iss_assets.datasets.items import COLUMN_OF_INPUT, data_hash, left_out, load_items
from iss_assets.evaluation.check_ins.study import CheckInInputs, evaluate_elsewhere, left_out_elsewhere
from iss_assets.evaluation.external import CODE_VERSION, Cohorts, Predicted, evaluate_externally
from iss_assets.evaluation.study import CODE_VERSION as EVALUATION_VERSION
from iss_assets.features.registry import FEATURES
from iss_assets.modeling.check_ins import SENSORS
from iss_assets.modeling.experiments import BY_NAME, Experiment, experiment
from iss_assets.modeling.files import content_hash
from iss_assets.modeling.fitting import MODEL_FILE, fold_probabilities
from iss_assets.pipeline.staleness import (
    check_ins_fingerprint,
    evaluable_folds,
    quality_fingerprint,
    stale_patients,
)
from iss_assets.privacy.register import open_study
from iss_assets.protocol import terms
from iss_assets.protocol.recordings import Recording, recording_of
from iss_assets.reports.clinic_report import ClinicReportInputs, write_clinic_report
from iss_assets.reports.external_report import ExternalReportInputs, write_external_report
from iss_assets.schemas.external import EXTERNAL, SAME_ANSWERS, SAME_FILE
from iss_assets.schemas.operations import Extractions
from iss_assets.settings import Settings, TrainingSettings
from iss_assets.synthetic.marker import is_sample_study
from iss_assets.version import installed_version
from iss_assets.warehouse.database import KeyProblem, Replacement, Warehouse
from iss_assets.warehouse.engine import is_encrypted
from iss_assets.warehouse.ledger import (
    STUDY,
    code_versions,
    entry_key,
    fingerprint,
    ledger_rows,
    video_fingerprints,
)

Log = Callable[[str], None]

_MADE_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "frames": ("video", "faces"),
    "faces": ("video", "faces"),
    "landmarks": ("video", "faces", "landmarks"),
    **dict.fromkeys(("audio", "mel_spectrograms", "audio_features"), ("video", "audio")),
    "video_quality": ("video", "faces", "landmarks", "audio", "identity", "quality"),
    **{
        name: ("video", "faces", "landmarks", "audio", feature.name)
        for feature in FEATURES
        for name in feature.table_names
    },
}
"""Sections of the settings behind each table that models read."""

_ANSWERS: Final = ", ".join(("patient_id", "submitted_on", *terms.SCORES))


_FILES: Final = " union ".join(
    f"select patient_id, sha256 from {table} where status = 'ok'"
    for table in (*(recording.inventory for recording in Recording), "thermal")
)
"""A query of every readable file. Unreadable ones, such as empty uploads, are alike without being anybody's."""


class NotApplicable(ValueError):
    """The models cannot be applied to this study; the message says why, and what to do."""


@dataclass(frozen=True)
class ModelsHome:
    """The home of another study, of which models, tables and settings are read.

    Attributes
    ----------
    path : Path
        The folder.
    warehouse : Warehouse
        Its tables.
    """

    path: Path
    warehouse: Warehouse

    def model_file(self, experiment: str, split: int) -> Path:
        """Return the file of a fold's model; what the tables of the other home say about paths is not followed."""
        return self.path / "models" / experiment / f"{split:02d}" / MODEL_FILE

    def written_settings(self) -> dict[str, Any]:
        """Return what ``iss.toml`` in the home says, to name differences; nothing if there is none that can be read."""
        try:
            return tomllib.loads((self.path / "iss.toml").read_text("utf-8"))
        except (OSError, ValueError):
            return {}


@dataclass(frozen=True)
class Validation:
    """What `validate_externally` did.

    Attributes
    ----------
    page : Path
        The report.
    clinic_page : Path or None
        The clinic's report of the other study's models of check-ins; None where these cannot be applied, or experiments were named.
    made : bool
        Whether anything was predicted; false if nothing had changed.
    notes : tuple of str
        What was left out, and why.
    """

    page: Path
    clinic_page: Path | None
    made: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Applicable:
    """An experiment whose models can be applied: its folds, and the settings with which its items are chosen."""

    experiment: Experiment
    folds: pd.DataFrame
    settings: TrainingSettings


def open_models(path: Path, settings: Settings, key_file: Path | None = None) -> ModelsHome:
    """Return the home of the models.

    Raises
    ------
    NotApplicable
        If it is this study's own home, or no home, or its key is missing.
    """
    warehouse = path / "warehouse.duckdb"
    if path.resolve() == settings.home.resolve():
        raise NotApplicable(
            "the models and this study have the same home: no study is external to itself. Name this study's own home with "
            "--home"
        )
    if not warehouse.exists():
        raise NotApplicable(
            f"--models: {path.name!r} is not the home of a study: it has no warehouse.duckdb. If its tables are in a shared "
            "warehouse, name a copy of the home with a snapshot of them: iss snapshot COPY/warehouse.duckdb"
        )
    encrypted = is_encrypted(warehouse)
    if encrypted and key_file is None:
        raise KeyProblem(
            f"the home of the models, {path.name!r}, is encrypted: name its key with --models-key FILE"
        )
    if encrypted is False and key_file is not None:
        raise KeyProblem(
            f"--models-key names a key, but the home of the models, {path.name!r}, is not encrypted"
        )
    # this study's warehouse may be a shared one
    own = settings.warehouse.of_a_file().model_copy(update={"key_file": key_file, "key_command": None})
    return ModelsHome(path, Warehouse(warehouse, own))


def validate_externally(
    settings: Settings,
    models: ModelsHome,
    names: Sequence[str] = (),
    profile: str | None = None,
    log: Log = lambda _: None,
) -> Validation:
    """Predict this study's patients with another study's models, evaluate the predictions, and write the report.

    Parameters
    ----------
    settings : Settings
        This study's.
    models : ModelsHome
        The other study's home.
    names : sequence of str
        Experiments; by default every one that was trained there and can be applied here.
    profile : str, optional
        Training profile of the models; by default that of the settings.
    log : callable
        Takes one line on what is being done.

    Raises
    ------
    NotApplicable
        If there is nothing to apply, or nothing to apply it to; if experiments are named, also if one of them cannot be
        applied.
    """
    for name in names:
        experiment(name)
    store = Warehouse(settings.warehouse_path, settings.warehouse)
    if not store.exists() or not store.query("select 1 from patients limit 1").num_rows:
        raise NotApplicable(
            f"the home {settings.home.name!r} has no patients yet: bring this study into it with: iss run"
        )
    folder = open_study(settings)
    notes = []
    if stale := stale_patients(folder, settings):
        notes.append(
            f"{len(stale)} of {len(folder.patients)} patients of the study folder are not up to date in the home; what it has "
            "of them is used. Bring them up to date with: iss run"
        )
    folds = _trained(models, names, profile or settings.training.profile)
    chosen, refused = _applicable(store, settings, models, folds)
    if refused and (names or not chosen):
        raise NotApplicable("; ".join(f"{name}: {why}" for name, why in refused.items()))
    cohorts = _cohorts(store, models.warehouse)
    patients = sorted(set(cohorts.here["patient_id"]) - set(cohorts.overlap))
    if cohorts.overlap:
        notes.append(_overlap_words(cohorts))
    if not patients:
        raise NotApplicable(f"{_overlap_words(cohorts)}: nobody is left whom the models have never seen")
    page = settings.reports_dir / f"external_validation_{cohorts.source[:8]}.html"
    clinic_page = None if names else settings.reports_dir / f"external_clinic_{cohorts.source[:8]}.html"
    if clinic_page is not None:
        try:
            check_ins_there, check_ins_here = _check_ins(store, settings, models)
        except NotApplicable as problem:
            refused[CHECK_INS] = str(problem)
            clinic_page.unlink(missing_ok=True)
            clinic_page = None
        else:
            refused |= left_out_elsewhere(check_ins_there, check_ins_here, settings.check_ins)
    state = _state(store, settings, models, chosen, refused, cohorts, patients)
    recorded = store.query(
        "select fingerprint from extractions where patient_id = ? and subject = ? and table_name = 'external_results'",
        [STUDY, cohorts.source],
    )["fingerprint"].to_pylist()
    if recorded == [state] and page.exists() and (clinic_page is None or clinic_page.exists()):
        return Validation(page, clinic_page, False, tuple(notes))
    predicted = []
    for one in chosen:
        name = one.experiment.name
        log(f"{name}: {len(one.folds)} models predict")
        items = load_items(store, one.experiment, one.settings, settings.faces, patients)
        if len(items) == 0:
            reasons = Counter(left_out(store, one.experiment, one.settings, patients)["reason"].to_pylist())
            refused[name] = "this study has nothing that it reads: " + _counted(reasons)
            continue
        predicted.append(_predict(store, models, one, items, patients))
    if not predicted or (names and refused):
        raise NotApplicable("; ".join(f"{name}: {why}" for name, why in refused.items()))
    tables = evaluate_externally(predicted, cohorts, settings.evaluation)
    store.replace_all(
        [
            r
            for table in EXTERNAL
            for rows in [tables[table.__table__]]
            for r in (
                Replacement(table, rows, {"source": cohorts.source}),
                Replacement(
                    Extractions,
                    ledger_rows([(STUDY, cohorts.source, table.__table__, state, rows.num_rows)]),
                    entry_key(STUDY, cohorts.source, table.__table__),
                ),
            )
        ]
    )
    invented = is_sample_study(settings.study)
    versions = {name: installed_version(name) for name in ("iss-assets", "scikit-learn", "torch")}
    if clinic_page is not None:
        log("check-ins: the clinic's questions")
        asked = replace(check_ins_here, splits=pd.DataFrame({"patient_id": patients, "split": 1}))
        write_clinic_report(
            ClinicReportInputs(
                tables=evaluate_elsewhere(check_ins_there, asked, settings.check_ins),
                settings=settings.check_ins,
                invented=invented,
                learned_from=len(cohorts.trained),
                versions=versions,
            ),
            clinic_page,
        )
    write_external_report(
        ExternalReportInputs(
            tables=tables,
            not_applied=refused,
            settings=settings.evaluation,
            clinic_page=clinic_page.name if clinic_page else "",
            invented=invented,
            versions=versions,
        ),
        page,
    )
    notes += [f"not applied: {name}: {why}" for name, why in refused.items()]
    return Validation(page, clinic_page, True, tuple(notes))


CHECK_INS: Final = "check-ins"
"""What the models of answers that change are called where they cannot be applied."""


def _check_ins(
    store: Warehouse, settings: Settings, models: ModelsHome
) -> tuple[CheckInInputs, CheckInInputs]:
    """Return the check-ins of the training study and of this one, whose measures were made in the same way.

    Models of check-ins are so small that they are not kept: each is what the training study's check-ins give, without any of
    this study's.

    Raises
    ------
    NotApplicable
        If a study has no measures, or they were made in different ways, with the settings that differ, as far as ``iss.toml``
        names them.
    """
    versions = code_versions(settings)
    made = models.warehouse.query("select distinct table_name, patient_id from extractions").to_pylist()
    tables = sorted(set(MADE_FROM) & set(versions) & {row["table_name"] for row in made} - {"video_quality"})
    trained = sorted({row["patient_id"] for row in made})
    if different := _made_otherwise(models.warehouse, versions, tables, trained):
        raise NotApplicable(
            f"{', '.join(different)} of the training study were made in another way than they are here. "
            + _differences(settings, models, different)
        )
    if _assessed_otherwise(models.warehouse, versions, trained):
        raise NotApplicable(
            "which videos are usable is decided in another way here than in the training study. "
            + _differences(settings, models, ["video_quality"])
        )
    everybody = store.query("select patient_id from patients")["patient_id"].to_pylist()
    if stale := _made_otherwise(store, versions, tables, everybody):
        raise NotApplicable(
            f"{', '.join(stale)} of this study were made with other settings than it has now: bring them up to date with: iss run"
        )
    there, here = (
        check_in_inputs(one, settings.faces, settings.check_ins) for one in (models.warehouse, store)
    )
    for measured, words in ((there, "the training study"), (here, "this study")):
        if not set(SENSORS) & set(measured.measures):
            raise NotApplicable(
                f"{words} has no measures of face, behavior, voice or words of a usable video"
            )
    return there, here


def _trained(models: ModelsHome, names: Sequence[str], profile: str) -> pd.DataFrame:
    """Return the folds that may be applied: comparable ones, of the profile, of the named experiments."""
    folds, out = evaluable_folds(models.warehouse)
    frame = folds.to_pandas()
    if frame.empty:
        why = f" ({'; '.join(map(str, out))})" if out else ""
        raise NotApplicable(
            f"the home of the models, {models.path.name!r}, has no trained models{why}: train some there with: iss train"
        )
    if missing := [name for name in names if name not in set(frame["experiment"])]:
        there = ", ".join(sorted(set(frame["experiment"])))
        raise NotApplicable(
            f"not trained in the home of the models: {', '.join(missing)}; trained there: {there}"
        )
    if names:
        frame = frame[frame["experiment"].isin(names)]
    of_profile = frame[frame["profile"] == profile]
    if of_profile.empty:
        others = " and ".join(sorted(set(frame["profile"])))
        raise NotApplicable(
            f"the models were trained in the profile {others}, not {profile}: ask for them with --profile {others}"
        )
    return of_profile


def _applicable(
    store: Warehouse, settings: Settings, models: ModelsHome, folds: pd.DataFrame
) -> tuple[list[_Applicable], dict[str, str]]:
    """Return the experiments that can be applied, and why others cannot."""
    chosen: list[_Applicable] = []
    refused: dict[str, str] = {}
    for name, group in folds.groupby("experiment", sort=True):
        known = BY_NAME.get(str(name))
        if known is None:
            refused[str(name)] = "this version of the program does not have this experiment"
            continue
        try:
            _require_same_code(known, group, models)
            with_settings = _training_settings(group, settings)
            _require_same_preprocessing(store, settings, models, known, group, with_settings)
        except NotApplicable as problem:
            refused[known.name] = str(problem)
            continue
        chosen.append(_Applicable(known, group, with_settings))
    return chosen, refused


def _require_same_code(known: Experiment, folds: pd.DataFrame, models: ModelsHome) -> None:
    others = sorted(set(folds["code_version"]) - {known.code_version})
    if others:
        raise NotApplicable(
            f"its models were trained by version {', '.join(others)} of the training code, and this program has version "
            f"{known.code_version}: train them again with this program, or apply them with theirs"
        )
    missing = [s for s in folds["split"] if not models.model_file(known.name, s).is_file()]
    if missing:
        raise NotApplicable(
            f"model files are missing in the home of the models, of splits {', '.join(map(str, missing))}: train them again"
        )


def _training_settings(folds: pd.DataFrame, settings: Settings) -> TrainingSettings:
    """Return the settings with which the models were trained; where and how fast they are computed is this machine's."""
    given = json.loads(folds["settings"].iloc[0])
    trained = {n: v for n, v in given.items() if n in TrainingSettings.model_fields}
    try:
        stored = TrainingSettings.model_validate({**trained, "split_file": None, "resnet50_weights": None})
    except ValidationError:
        raise NotApplicable("the settings stored with its models cannot be read: train them again") from None
    here = ("device", "decoded_faces_gb", "encoded_faces_gb")
    return stored.model_copy(update={name: getattr(settings.training, name) for name in here})


def _require_same_preprocessing(
    store: Warehouse,
    settings: Settings,
    models: ModelsHome,
    known: Experiment,
    folds: pd.DataFrame,
    training: TrainingSettings,
) -> None:
    """Compare what rows were made with, there and here.

    Raises
    ------
    NotApplicable
        With the settings that differ, as far as ``iss.toml`` names them.
    """
    versions = code_versions(settings)
    read = {COLUMN_OF_INPUT[name][0] for name in known.inputs} - {"bpi_scores", "embeddings"}
    if off := sorted(read - set(versions)):
        raise NotApplicable(
            f"this study lacks what it reads, because it is switched off here: {', '.join(off)}"
        )
    tables = sorted(read | {"frames"})
    trained = sorted(
        {p for column in ("train_patients", "test_patients") for ps in folds[column] for p in ps}
    )
    if different := _made_otherwise(models.warehouse, versions, tables, trained):
        raise NotApplicable(
            f"{', '.join(different)} of the training study were made in another way than they are here. "
            + _differences(settings, models, different)
        )
    everybody = store.query("select patient_id from patients")["patient_id"].to_pylist()
    if stale := _made_otherwise(store, versions, tables, everybody):
        raise NotApplicable(
            f"{', '.join(stale)} of this study were made with other settings than it has now: bring them up to date with: iss run"
        )
    if training.only_usable and _assessed_otherwise(models.warehouse, versions, trained):
        raise NotApplicable(
            "which videos are usable is decided in another way here than in the training study. "
            + _differences(settings, models, ["video_quality"])
        )
    if "embeddings" in {COLUMN_OF_INPUT[name][0] for name in known.inputs}:
        _require_same_embeddings(store, models.warehouse)


def _made_otherwise(
    warehouse: Warehouse, versions: Mapping[str, str], tables: Sequence[str], patients: Sequence[str]
) -> list[str]:
    """Return the tables of which a row of these patients was made with other versions of settings, code or models."""
    different: set[str] = set()
    for recording in Recording:
        wanted = {name: versions[name] for name in tables if recording_of(name)[0] is recording}
        if not wanted:
            continue
        recorded = warehouse.query(
            f"select e.table_name, v.sha256, e.fingerprint from extractions e join {recording.inventory} v "
            "on v.video_id = e.subject and v.patient_id = e.patient_id where v.status = 'ok' "
            "and list_contains(?, e.table_name) and list_contains(?, e.patient_id)",
            [list(wanted), list(patients)],
        ).to_pylist()
        different |= {
            row["table_name"]
            for row in recorded
            if video_fingerprints(row["sha256"], wanted, recording)[row["table_name"]] != row["fingerprint"]
        }
    return sorted(different)


def _assessed_otherwise(warehouse: Warehouse, versions: Mapping[str, str], patients: Sequence[str]) -> bool:
    """Return whether no patient's quality was assessed as it would be here; reviewed patients are no evidence."""
    videos = warehouse.query(
        "select patient_id, video_id, sha256, status from videos order by video_id"
    ).to_pylist()
    reviewed = set(warehouse.query("select distinct patient_id from reviews")["patient_id"].to_pylist())
    found = warehouse.query(
        "select patient_id, fingerprint from extractions where table_name = 'video_quality'"
    ).to_pylist()
    recorded = {row["patient_id"]: row["fingerprint"] for row in found}
    own: dict[str, list[dict[str, Any]]] = {}
    for video in videos:
        own.setdefault(video["patient_id"], []).append(video)
    evidence = [p for p in patients if p in recorded and p in own and p not in reviewed]
    return bool(evidence) and all(
        quality_fingerprint(p, own[p], videos, versions) != recorded[p] for p in evidence
    )


def _require_same_embeddings(store: Warehouse, trained: Warehouse) -> None:
    made = "select distinct weights_origin, len(embedding) as width from embeddings order by all"
    here, there = store.query(made).to_pylist(), trained.query(made).to_pylist()
    if not here:
        raise NotApplicable("this study has no embeddings yet: make them with: iss train embedding_probe")
    if here != there:
        raise NotApplicable(
            "faces are embedded by another network here than in the training study: set ISS_TRAINING__EMBEDDING_NETWORK to theirs "
            "and make the embeddings again with: iss train embedding_probe"
        )


def _differences(settings: Settings, models: ModelsHome, tables: Sequence[str]) -> str:
    """Name the settings behind some tables that differ, as far as the ``iss.toml`` of the models' home tells."""
    written = models.written_settings()
    lines = []
    for section in dict.fromkeys(name for table in tables for name in _MADE_BY[recording_of(table)[1]]):
        here: BaseModel = getattr(settings, section)
        try:
            there = type(here).model_validate(written.get(section, {}))
        except ValidationError:
            continue
        lines += [
            f"{section}.{name} is {_shown(getattr(there, name))} there and {_shown(getattr(here, name))} here"
            for name in type(here).model_fields
            if getattr(there, name) != getattr(here, name)
        ]
    if not lines:
        return (
            "No setting in its iss.toml differs: they come from another version of the program, from other model files, or "
            "from settings in the environment (ISS_...)"
        )
    return "Settings that differ: " + "; ".join(lines)


def _shown(value: Any) -> str:
    return value.name if isinstance(value, Path) else str(value)


def _cohorts(store: Warehouse, trained: Warehouse) -> Cohorts:
    people = "select patient_id, pain_level, sex, skin_group from patients order by patient_id"
    splits = trained.query(
        "select s.patient_id, s.pain_level, p.sex, p.skin_group, s.cohort_hash from cv_splits s "
        "left join patients p using (patient_id) order by s.patient_id"
    ).to_pandas()
    return Cohorts(
        str(splits["cohort_hash"].iloc[0]),
        splits.drop(columns="cohort_hash"),
        store.query(people).to_pandas(),
        _overlap(store, trained),
    )


def _overlap(store: Warehouse, trained: Warehouse) -> dict[str, str]:
    """Return this study's patients whom the training study has, too, each with how that shows."""
    files = {row["sha256"] for row in trained.query(f"select sha256 from ({_FILES})").to_pylist()}
    answers = f"select {_ANSWERS} from bpi_scores where missing_scores < {len(terms.SCORES)}"
    theirs = {tuple(row.values()) for row in trained.query(answers).to_pylist()}
    same_answers = {
        row["patient_id"]: SAME_ANSWERS
        for row in store.query(answers).to_pylist()
        if tuple(row.values()) in theirs
    }
    same_file = {
        row["patient_id"]: SAME_FILE
        for row in store.query(f"select patient_id, sha256 from ({_FILES})").to_pylist()
        if row["sha256"] in files
    }
    known = set(store.query("select patient_id from patients")["patient_id"].to_pylist())
    return {p: why for p, why in {**same_answers, **same_file}.items() if p in known}


def _overlap_words(cohorts: Cohorts) -> str:
    counts = Counter(cohorts.overlap.values())
    how = {
        SAME_FILE: "by the same files",
        SAME_ANSWERS: "by the same id with the same answers on the same day",
    }
    said = " and ".join(f"{counts[why]} {words}" for why, words in how.items() if counts[why])
    return f"in the training study, too, and left out: {len(cohorts.overlap)} of {len(cohorts.here)} patients ({said})"


def _counted(reasons: Counter[str]) -> str:
    return (
        ", ".join(f"{n} × {reason.replace('_', ' ')}" for reason, n in reasons.most_common()) or "no patient"
    )


def _state(
    store: Warehouse,
    settings: Settings,
    models: ModelsHome,
    chosen: Sequence[_Applicable],
    refused: Mapping[str, str],
    cohorts: Cohorts,
    patients: Sequence[str],
) -> str:
    """Return a hash of everything that the tables are made from."""
    return fingerprint(
        CODE_VERSION,
        EVALUATION_VERSION,
        settings.evaluation.digest(),
        check_ins_fingerprint(store, settings),
        check_ins_fingerprint(models.warehouse, settings),
        cohorts.source,
        cohorts.trained.to_dict("records"),
        cohorts.here.to_dict("records"),
        sorted(cohorts.overlap.items()),
        sorted(refused.items()),
        [
            (
                one.experiment.name,
                one.experiment.code_version,
                one.experiment.settings_read(one.settings),
                [content_hash(models.model_file(one.experiment.name, s)) for s in one.folds["split"]],
                data_hash(store, one.experiment, one.settings, patients),
                _trained_results(models, one.experiment.name),
            )
            for one in chosen
        ],
    )


def _trained_results(models: ModelsHome, name: str) -> dict[str, Any]:
    rows = models.warehouse.query(
        "select all_classes, all_classes_low, all_classes_high from experiment_results where experiment = ?",
        [name],
    ).to_pylist()
    return rows[0] if rows else {}


def _predict(
    store: Warehouse, models: ModelsHome, one: _Applicable, items: Any, patients: Sequence[str]
) -> Predicted:
    """Let all folds of an experiment predict the items of this study."""
    probabilities = [
        fold_probabilities(one.experiment, models.model_file(one.experiment.name, s), items, one.settings)
        for s in one.folds["split"]
    ]
    reasons: dict[str, Counter[str]] = {}
    for row in left_out(store, one.experiment, one.settings, patients).to_pylist():
        reasons.setdefault(row["patient_id"], Counter())[row["reason"]] += 1
    without = sorted(set(patients) - set(items.patients))
    return Predicted(
        one.experiment,
        items,
        probabilities,
        one.folds,
        {p: reasons[p].most_common(1)[0][0] if p in reasons else "no_items" for p in without},
        _trained_results(models, one.experiment.name),
    )
