"""What is stale, and why: the one module that decides it.

A table of a patient, a fold or the evaluation is current while the ledger has the fingerprint that it would get now:
a hash of what it is made from, the settings it reads and the version of its code. `iss run`, `iss status`, the study
sensor and `iss train` all ask here. Nothing is opened or hashed for it: files are compared by name, size and
modification time, rows by content.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as arrow

from iss_assets.checks.stages import results_fingerprint, unchecked
from iss_assets.checks.study import SQL as STUDY_CHECKS
from iss_assets.datasets.check_ins import MADE_FROM as CHECK_INS_MADE_FROM
from iss_assets.datasets.items import data_hash, trainable_patients
from iss_assets.evaluation.check_ins.study import CODE_VERSION as CHECK_INS_VERSION
from iss_assets.evaluation.comparable import LeftOut, comparable_folds, experiments_with_old_levels
from iss_assets.evaluation.study import CODE_VERSION as EVALUATION_VERSION
from iss_assets.features.prompts import READINGS_CODE_VERSION
from iss_assets.features.registry import FEATURES, feature_named
from iss_assets.intake.folder import (
    StudyFolder,
    consent_rows,
    patient_rows,
    problem_rows,
    prompt_rows,
    rejected_rows,
    review_rows,
    score_rows,
)
from iss_assets.intake.records import ThermalFile
from iss_assets.media.journal import THERMAL
from iss_assets.modeling.check_ins import CODE_VERSION as CHECK_IN_MODELS_VERSION
from iss_assets.modeling.embeddings import EMBEDDING_CODE_VERSION, embedding_side
from iss_assets.modeling.experiments import BY_NAME, EXPERIMENTS, Experiment
from iss_assets.modeling.folds import (
    SplitFileError,
    assign_splits,
    fold_subject,
    read_split_file,
    sides,
    splits_in,
)
from iss_assets.modeling.weights import embedding_fingerprint, weights_fingerprint
from iss_assets.pipeline.partition_keys import most_splits
from iss_assets.protocol.recordings import Recording, enabled_recordings
from iss_assets.schemas.prompts import PromptReadings
from iss_assets.schemas.registry import BY_NAME as TABLES
from iss_assets.schemas.words import Transcripts
from iss_assets.settings import Settings, TrainingSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.ledger import (
    EXTRACTED_TABLES,
    STUDY,
    WHOLE,
    code_versions,
    fingerprint,
    inventory_version,
    ledger,
    read_ledger,
    video_fingerprints,
    video_tables,
)
from iss_assets.warehouse.sql.models import files_stamp, load_models, require_models
from iss_assets.warehouse.verdicts import read_verdicts, stage_versions, valid_verdicts

PATIENT_TABLES = (
    "patients",
    "bpi_scores",
    "reviews",
    "consent",
    "videos",
    "frames",
    "faces",
    "landmarks",
    "audio",
    "mel_spectrograms",
    "audio_features",
    "video_quality",
)
"""Tables that are made patient by patient, without those of the features."""

FEATURE_TABLES = (*(name for feature in FEATURES for name in feature.table_names), "thermal")
"""Tables of the features, those that are switched off included; they are made patient by patient too."""

PROMPT_TABLES = (Recording.PROMPT.inventory, *video_tables(Recording.PROMPT), PromptReadings.__table__)
"""Tables of the Question 10 readings, those that are switched off included; they are made patient by patient too."""

WORD_TABLES = (
    *(recording.named(name) for recording in Recording for name in feature_named("words").table_names),
    PromptReadings.__table__,
)
"""Tables that runs of their own make, the job `words`, when the rest of all patients is done."""

_HEARD = frozenset(
    recording.named(name) for recording in Recording for name in feature_named("words").source_names
)
"""Tables that words are recognized in."""

SCORES_CODE_VERSION = "2"
"""Raised when the same survey row yields a different row of ``bpi_scores``. 2: offsets are no longer lost, and the offset
that a time is written with decides its local day."""


def scores_fingerprint(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the fingerprint of a patient's answers."""
    return fingerprint(SCORES_CODE_VERSION, rows)


def reviews_fingerprint(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the fingerprint of the decisions about a patient."""
    return fingerprint("reviews", rows)


def consent_fingerprint(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the fingerprint of what counts of a patient's consent."""
    return fingerprint("consent", rows)


def videos_fingerprint(files: Sequence[Any], settings: Settings, unread: Collection[str] = ()) -> str:
    """Return the fingerprint of a patient's narratives, or readings: probe version, then the listing of files.

    Files without read permission are listed as such, so granting it is a change. One that could not be read for another
    reason (`unread`: a drive that failed, a file that changed meanwhile) makes a fingerprint that no listing has, so
    the next run tries again.
    """
    listing = [
        (f.submission_id, f.name, f.size, f.mtime_ns, f.prompt is not None)
        + (("unread",) if f.submission_id in unread or not os.access(f.path, os.R_OK) else ())
        for f in files
    ]
    return f"{inventory_version(settings)}-{fingerprint(sorted(listing))}"


def thermal_version(settings: Settings) -> str:
    """Return the version of what reads thermal pictures: our code, the settings, and the library, or that there is none."""
    from iss_assets.media.thermal import THERMAL_CODE_VERSION, flyr_version

    return fingerprint(THERMAL, THERMAL_CODE_VERSION, settings.thermal.digest(), flyr_version())


def thermal_fingerprint(
    files: Sequence[ThermalFile],
    videos: Sequence[Mapping[str, Any]],
    settings: Settings,
    versions: Mapping[str, str],
    unread: Collection[str] = (),
) -> str:
    """Return the fingerprint that a patient's thermal pictures have when they are current.

    Parameters
    ----------
    files : sequence of ThermalFile
        The patient's thermal pictures.
    videos : sequence of mapping
        The patient's rows of ``videos`` (video_id, sha256, status): a picture is paired with a frame of its own video.
    settings : Settings
        Settings of the study.
    versions : mapping
        See ``ledger.code_versions``.
    unread : collection of str
        Submissions whose picture could not be read now: the next run tries again.
    """
    of_submission = {v["video_id"]: (v["sha256"], v["status"]) for v in videos}
    listing = [
        (f.submission_id, f.name, f.size, f.mtime_ns, of_submission.get(f.submission_id))
        + (("unread",) if f.submission_id in unread or not os.access(f.path, os.R_OK) else ())
        for f in files
    ]
    return fingerprint(
        thermal_version(settings), versions["frames"] if files else None, sorted(listing, key=str)
    )


def readings_are_assessed(settings: Settings) -> bool:
    """Return whether it is found out which text was read: readings are processed, and words recognized."""
    return Recording.PROMPT in enabled_recordings(settings) and Recording.PROMPT.named(
        Transcripts.__table__
    ) in code_versions(settings)


def readings_rules(settings: Settings) -> str:
    """Return the fingerprint of what readings are assessed by, besides words and texts."""
    limits = settings.checks
    return fingerprint(
        READINGS_CODE_VERSION, settings.prompt.digest(), limits.wordless_s, limits.wordless_share
    )


def readings_fingerprint(
    folder: StudyFolder,
    patient: str,
    files: Sequence[Mapping[str, Any]],
    settings: Settings,
    versions: Mapping[str, str],
) -> str:
    """Return the fingerprint that a patient's rows of ``prompt_readings`` have when they are current.

    Parameters
    ----------
    folder : StudyFolder
        The texts, and which of them was to be read.
    patient : str
        Patient id.
    files : sequence of mapping
        The patient's rows of ``prompt_videos`` (video_id, sha256, status).
    settings : Settings
        What counts as read.
    versions : mapping
        See ``ledger.code_versions``.
    """
    expected = {s.submission_id: s.prompt_id for s in folder.submissions_of(patient)}
    transcripts = Recording.PROMPT.named(Transcripts.__table__)
    heard = [
        (
            file["video_id"],
            file["status"],
            video_fingerprints(file["sha256"], versions, Recording.PROMPT).get(transcripts),
            expected.get(file["video_id"]),
        )
        for file in files
    ]
    return fingerprint(
        readings_rules(settings),
        prompt_rows(folder),
        sorted(heard, key=lambda h: h[0]),
    )


def quality_fingerprint(
    patient: str,
    own: Sequence[Mapping[str, Any]],
    everyone: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    reviews: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the fingerprint that a patient's quality rows have when they are current.

    Parameters
    ----------
    patient : str
        Patient id.
    own, everyone : sequence of mapping
        Rows of ``videos`` (patient_id, video_id, sha256, status) of the patient and of all: a file that another
        patient has submitted too is an issue of both.
    versions : mapping
        See ``ledger.code_versions``.
    reviews : sequence of mapping
        The patient's rows of ``reviews``.
    """
    mine = {v["sha256"] for v in own}
    twins = sorted(v["video_id"] for v in everyone if v["sha256"] in mine and v["patient_id"] != patient)
    read = {table: versions[table] for table in EXTRACTED_TABLES}
    prints = [(v["video_id"], v["status"], video_fingerprints(v["sha256"], read)) for v in own]
    # without reviews the same as before there were any, so that no home is assessed again
    decided = [reviews_fingerprint(reviews)] if reviews else []
    return fingerprint(sorted(prints, key=lambda p: p[0]), twins, versions["video_quality"], *decided)


def fold_fingerprints(
    warehouse: Warehouse,
    settings: TrainingSettings,
    experiment: Experiment,
    train: Sequence[str],
    test: Sequence[str],
) -> dict[str, str]:
    """Return the fingerprints that a fold's model, predictions and attention, if it has one, have when they are current."""
    learned = fingerprint(
        experiment.name,
        experiment.code_version,
        relevant_settings(experiment, settings),
        data_hash(warehouse, experiment, settings, train),
    )
    predicted = fingerprint(learned, data_hash(warehouse, experiment, settings, test))
    return {
        "fold_models": learned,
        "frame_predictions": predicted,
        **({"video_attention": predicted} if experiment.has_attention else {}),
    }


def relevant_settings(experiment: Experiment, settings: TrainingSettings) -> dict[str, Any]:
    """Return the settings that change what this experiment's model learns, and its initial weights by content."""
    first = "none"
    if experiment.uses_backbone:
        first = (
            embedding_fingerprint(settings) if experiment.uses_embeddings else weights_fingerprint(settings)
        )
    return {**experiment.settings_read(settings), "first_weights": first}


def split_file_of(settings: Settings) -> dict[str, int] | None:
    """Read the explicit split file, if one is set."""
    path = settings.training.split_file
    return None if path is None else read_split_file(path)


def make_splits(warehouse: Warehouse, settings: Settings) -> tuple[arrow.Table, str]:
    """Return the rows of ``cv_splits`` as they should be now, and their fingerprint."""
    named = split_file_of(settings)
    most = most_splits(settings)
    if named and max(named.values()) > most:
        raise SplitFileError(
            f"the split file names split {max(named.values())}, and there are {most}: number the splits from 1 "
            "on, or set ISS_TRAINING__FOLDS to as many"
        )
    rows = assign_splits(
        trainable_patients(warehouse, settings.training),
        settings.training.folds,
        settings.training.split_seed,
        warehouse.query("select * from cv_splits"),
        named,
    )
    return rows, fingerprint(
        rows["cohort_hash"][0].as_py(), settings.training.folds, settings.training.split_seed
    )


def embeddings_fingerprint(warehouse: Warehouse, settings: Settings, patient: str) -> str:
    """Return the fingerprint that a patient's embeddings have when they are current."""
    training = settings.training
    used = (
        embedding_fingerprint(training),
        embedding_side(training),
        training.precision,
        EMBEDDING_CODE_VERSION,
    )
    return fingerprint(used, data_hash(warehouse, BY_NAME["resnet50_2_static"], training, [patient]))


def stale_experiments(warehouse: Warehouse, settings: Settings, names: Sequence[str]) -> list[str]:
    """Return those experiments of which some fold is not current."""
    cohort = warehouse.query("select * from cv_splits order by patient_id")
    recorded = ledger(warehouse, STUDY)
    models = warehouse.query("select experiment, split, cohort_hash from fold_models").to_pylist()
    wanted = {(split, cohort["cohort_hash"][0].as_py()) for split in splits_in(cohort)}

    def stale(experiment: Experiment) -> bool:
        # a surplus fold counts too, and one whose row names another cohort though its data are the same
        if {(m["split"], m["cohort_hash"]) for m in models if m["experiment"] == experiment.name} != wanted:
            return True
        # a file is opened once per experiment; between experiments its writers get their turn
        with warehouse.one_state():
            for split in splits_in(cohort):
                expected = fold_fingerprints(warehouse, settings.training, experiment, *sides(cohort, split))
                subject = fold_subject(experiment.name, split)
                if any(
                    recorded.get((STUDY, subject, table)) != current for table, current in expected.items()
                ):
                    return True
        return False

    return [e.name for e in EXPERIMENTS if e.name in names and stale(e)]


def evaluable_folds(warehouse: Warehouse) -> tuple[arrow.Table, list[LeftOut]]:
    """Return the models that may be evaluated together, and what is left out and why; `iss train` fits that again."""
    models = warehouse.query("select * from fold_models order by experiment, split")
    splits = warehouse.query("select patient_id, split from cv_splits").to_pandas()
    kept, left_out = comparable_folds(models.to_pandas(), splits, relabelled_experiments(warehouse))
    return models.take(arrow.array(kept.index.to_numpy(), arrow.int64())), left_out


def relabelled_experiments(warehouse: Warehouse) -> list[str]:
    """Return the experiments whose models learned a patient's pain level that has been corrected since."""
    return experiments_with_old_levels(
        warehouse.query("select distinct experiment, patient_id, target from frame_predictions").to_pandas(),
        warehouse.query("select patient_id, pain_level from cv_splits").to_pandas(),
    )


def predictions_fingerprint(warehouse: Warehouse) -> str:
    """Return a hash of the predictions, of how the patients are split, and of the version of the evaluation's code."""
    recorded = ledger(warehouse, STUDY)
    made = sorted((v, m) for (_, v, t), m in recorded.items() if t == "frame_predictions")
    cohort = warehouse.query("select any_value(cohort_hash) as h from cv_splits")["h"][0].as_py()
    return fingerprint(EVALUATION_VERSION, cohort, made)


def evaluation_fingerprint(warehouse: Warehouse, settings: Settings, *, retrain: bool) -> str:
    """Return the fingerprint that the evaluation has when it is current."""
    ages = warehouse.query(
        "select patient_id, age_group from patients where age_group is not null order by all"
    )
    flagged = warehouse.query(
        "select video_id, moments, flags from video_quality semi join video_attention using (video_id) order by video_id"
    )
    # without age groups and attention the same as before there were any, so that no home is evaluated again
    return fingerprint(
        predictions_fingerprint(warehouse),
        settings.evaluation.digest(),
        retrain,
        *([ages.to_pylist()] if ages.num_rows else []),
        *([flagged.to_pylist()] if flagged.num_rows else []),
    )


def splits_are_stale(warehouse: Warehouse, settings: Settings) -> bool:
    """Return whether ``cv_splits`` would come out differently now."""
    return ledger(warehouse, STUDY).get((STUDY, WHOLE, "cv_splits")) != make_splits(warehouse, settings)[1]


def stale_embeddings(warehouse: Warehouse, settings: Settings, patients: Sequence[str]) -> list[str]:
    """Return those of the patients whose embeddings are not current."""
    with warehouse.one_state():
        recorded = ledger(warehouse)
        return [
            p
            for p in patients
            if recorded.get((p, WHOLE, "embeddings")) != embeddings_fingerprint(warehouse, settings, p)
        ]


def stale_accuracies(warehouse: Warehouse, patients: Sequence[str]) -> list[str]:
    """Return those of the patients whose accuracies were not computed from the present predictions."""
    recorded, current = ledger(warehouse), predictions_fingerprint(warehouse)
    return [p for p in patients if recorded.get((p, WHOLE, "patient_accuracy")) != current]


def evaluation_is_stale(warehouse: Warehouse, settings: Settings, *, thorough: bool) -> bool:
    """Return whether the evaluation is not current.

    A thorough evaluation (one that trained models again with permuted labels) is good enough where a quick one is
    wanted, but not the other way round.
    """
    enough = {
        evaluation_fingerprint(warehouse, settings, retrain=r)
        for r in ((True,) if thorough else (True, False))
    }
    return ledger(warehouse, STUDY).get((STUDY, WHOLE, "experiment_results")) not in enough


def check_ins_fingerprint(warehouse: Warehouse, settings: Settings) -> str:
    """Return the fingerprint that the evaluation of check-ins has when it is current."""
    with warehouse.read() as connection:
        cohort = connection.execute("select any_value(cohort_hash) from cv_splits").fetchone()
        recorded = read_ledger(connection)
    made = sorted((*key, value) for key, value in recorded.items() if key[2] in CHECK_INS_MADE_FROM)
    return fingerprint(CHECK_INS_VERSION, CHECK_IN_MODELS_VERSION, settings.check_ins.digest(), cohort, made)


def check_ins_are_stale(warehouse: Warehouse, settings: Settings) -> bool:
    """Return whether the evaluation of check-ins is not current."""
    recorded = ledger(warehouse, STUDY).get((STUDY, WHOLE, "check_in_claims"))
    return recorded != check_ins_fingerprint(warehouse, settings)


_CHECKS_OF = "checks of "


def with_latest_day(folder: StudyFolder) -> frozenset[str]:
    """Return the patients who were enrolled, or submitted something, on the latest day of the whole study.

    They are run first: weeks and days without a check-in are counted up to that day (``checks/sql/enrollment.sql``), so
    who is checked before it is known has to be checked again.
    """
    days = [(row["enrolled_on"], row["patient_id"]) for row in patient_rows(folder)]
    days += [(row["submitted_on"], row["patient_id"]) for row in score_rows(folder)]
    latest = max((day for day, _ in days if day is not None), default=None)
    return frozenset(patient for day, patient in days if day is not None and day == latest)


def stale_patients(folder: StudyFolder, settings: Settings) -> dict[str, list[str]]:
    """Return the patients of the study folder that need a run, with the tables that are stale.

    Nothing is opened or hashed: files are compared by name, size and modification time, rows by content.
    """
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    recorded = ledger(warehouse)
    versions = code_versions(settings)
    inventories = {recording: _inventory(warehouse, recording) for recording in enabled_recordings(settings)}
    videos = inventories[Recording.NARRATIVE]
    rows = [row for own in videos.values() for row in own]
    copies = Counter(row["sha256"] for row in rows)
    # quality looks for copies among everyone's files; those that have none need not be compared for every patient
    twins = [row for row in rows if copies[row["sha256"]] > 1]
    enrolled = patient_rows(folder)
    scores: dict[str, list[dict[str, Any]]] = {}
    for row in score_rows(folder):
        scores.setdefault(row["patient_id"], []).append(row)
    decisions: dict[str, list[dict[str, Any]]] = {}
    for row in review_rows(folder):
        decisions.setdefault(row["patient_id"], []).append(row)
    consents: dict[str, list[dict[str, Any]]] = {}
    for row in consent_rows(folder):
        consents.setdefault(row["patient_id"], []).append(row)
    assessed = readings_are_assessed(settings)
    without_checks = unchecked(warehouse, settings)
    lapsed = lapsed_verdicts(warehouse, settings, inventories)
    pictures = {} if settings.thermal.enabled else _thermals(warehouse)
    stale: dict[str, list[str]] = {}
    for row in enrolled:
        patient = row["patient_id"]
        expected = {
            (patient, WHOLE, "patients"): fingerprint([row]),
            (patient, WHOLE, "bpi_scores"): scores_fingerprint(scores.get(patient, [])),
        }
        reviews = decisions.get(patient, [])
        # a home from before there were reviews needs no run to learn that there are none
        if reviews or (patient, WHOLE, "reviews") in recorded:
            expected[(patient, WHOLE, "reviews")] = reviews_fingerprint(reviews)
        consent = consents.get(patient, [])
        if consent or (patient, WHOLE, "consent") in recorded:
            expected[(patient, WHOLE, "consent")] = consent_fingerprint(consent)
        for recording, inventory in inventories.items():
            files, whole = folder.videos_of(patient, recording), (patient, WHOLE, recording.inventory)
            # nor to learn that there are no readings
            if files or recording is Recording.NARRATIVE or whole in recorded:
                expected[whole] = videos_fingerprint(files, settings)
            for video in inventory.get(patient, []):
                if video["status"] == "ok":
                    prints = video_fingerprints(video["sha256"], versions, recording)
                    expected |= {(patient, video["video_id"], table): made for table, made in prints.items()}
        thermals = folder.thermals_of(patient)
        # studies without thermal pictures need no run to learn that there are none
        if settings.thermal.enabled and (thermals or (patient, WHOLE, "thermal") in recorded):
            expected[(patient, WHOLE, "thermal")] = thermal_fingerprint(
                thermals, videos.get(patient, []), settings, versions
            )
        # switched off, rows stay as long as their pictures do
        removed = pictures.get(patient, set()) - {file.submission_id for file in thermals}
        whole = (patient, WHOLE, PromptReadings.__table__)
        readings = inventories.get(Recording.PROMPT, {}).get(patient, [])
        if assessed and (readings or whole in recorded):
            expected[whole] = readings_fingerprint(folder, patient, readings, settings, versions)
        expected[(patient, WHOLE, "video_quality")] = quality_fingerprint(
            patient, videos.get(patient, []), twins, versions, reviews
        )
        outdated = sorted(
            {table for (p, v, table), current in expected.items() if recorded.get((p, v, table)) != current}
        )
        outdated += ["thermal"] if removed else []
        outdated += [table for table in lapsed.get(patient, []) if table not in outdated]
        outdated += [f"{_CHECKS_OF}{table}" for table in without_checks.get(patient, [])]
        if outdated:
            stale[patient] = outdated
    return stale


def stale_by_job(
    stale: Mapping[str, Sequence[str]],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return what the runs of patients bring up to date, and what those of their words do afterwards.

    Words of a patient wait while the sound that they are recognized in is stale itself.

    Parameters
    ----------
    stale : mapping
        See `stale_patients`.
    """
    first: dict[str, list[str]] = {}
    later: dict[str, list[str]] = {}
    for patient, tables in stale.items():
        words = [table for table in tables if table.removeprefix(_CHECKS_OF) in WORD_TABLES]
        if rest := [table for table in tables if table not in words]:
            first[patient] = rest
        if words and not _HEARD & {*rest}:
            later[patient] = words
    return first, later


def _inventory(warehouse: Warehouse, recording: Recording) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a recording's inventory by patient."""
    rows = warehouse.query(
        f"select patient_id, video_id, sha256, status from {recording.inventory} order by video_id"
    ).to_pylist()
    by_patient: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient_id"], []).append(row)
    return by_patient


def _thermals(warehouse: Warehouse) -> dict[str, set[str]]:
    """Return the submissions of each patient whose thermal picture has a row."""
    by_patient: dict[str, set[str]] = {}
    for row in warehouse.query("select patient_id, submission_id from thermal").to_pylist():
        by_patient.setdefault(row["patient_id"], set()).add(row["submission_id"])
    return by_patient


def lapsed_verdicts(
    warehouse: Warehouse,
    settings: Settings,
    inventories: Mapping[Recording, Mapping[str, Sequence[Mapping[str, Any]]]],
) -> dict[str, list[str]]:
    """Return the patients with a file that failed with another version of the code or of itself, and its inventory.

    It is tried again.
    """
    with warehouse.read() as connection:
        verdicts = read_verdicts(connection)
    if not verdicts:
        return {}
    lapsed: dict[str, list[str]] = {}
    for recording, inventory in inventories.items():
        hashes = {row["video_id"]: row["sha256"] for rows in inventory.values() for row in rows}
        standing = valid_verdicts(verdicts, hashes, stage_versions(settings), recording)
        for patient in {v.patient_id for v in verdicts if v.recording is recording and v not in standing}:
            lapsed.setdefault(patient, []).append(recording.inventory)
    return lapsed


def folder_is_stale(folder: StudyFolder, settings: Settings) -> bool:
    """Return whether what is wrong with the study folder has changed since it was last recorded."""
    recorded = ledger(Warehouse(settings.warehouse_path, settings.warehouse), STUDY)
    found = {"rejected_rows": rejected_rows(folder), "study_problems": problem_rows(folder)}
    texts = prompt_rows(folder)
    if Recording.PROMPT in enabled_recordings(settings) and (texts or (STUDY, WHOLE, "prompts") in recorded):
        found["prompts"] = texts
    return any(recorded.get((STUDY, WHOLE, table)) != fingerprint(rows) for table, rows in found.items())


def patient_states(
    signatures: Mapping[str, str], settings: Settings, stale: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return a hash of what each stale patient is to be made from and of what is recorded of them now.

    A run that achieved anything changes it, and so does a change of the files, of a setting or of the code.

    Parameters
    ----------
    signatures : mapping
        Patient to the signature of what was submitted (`intake.folder.signature_of`).
    settings : Settings
        Settings of the study.
    stale : mapping
        What `stale_patients` returned for the same read of the folder.
    """
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    recorded = _ledger_hashes(warehouse)
    versions = (code_versions(settings), results_fingerprint(settings))
    return {
        patient: fingerprint(signatures.get(patient), tables, recorded.get(patient), versions)
        for patient, tables in stale.items()
    }


def _ledger_hashes(warehouse: Warehouse) -> dict[str, str]:
    rows = warehouse.query(
        "select patient_id, count(*) || '-' || bit_xor(hash(subject, table_name, fingerprint)) as state "
        "from extractions group by patient_id"
    )
    return dict(zip(rows["patient_id"].to_pylist(), rows["state"].to_pylist(), strict=True))


def study_state(folder: StudyFolder, settings: Settings) -> str | None:
    """Return the state of what is wrong with the study folder; None where the tables of it are current."""
    return (
        fingerprint(rejected_rows(folder), problem_rows(folder), prompt_rows(folder))
        if folder_is_stale(folder, settings)
        else None
    )


def marts_state(warehouse: Warehouse, sql_dir: Path) -> str | None:
    """Return the state of what the SQL models and the study's expectations read; None while there is nothing."""
    require_models(sql_dir)
    stamp = files_stamp(sql_dir)
    if not stamp:
        return None
    return tables_state(
        warehouse, _tables_read(sql_dir) | {"rejected_rows"}, stamp, files_stamp(STUDY_CHECKS)
    )


def pages_state(warehouse: Warehouse) -> str | None:
    """Return the state of what the study report and the patients' pages show; None while there is nothing."""
    return tables_state(warehouse, _SHOWN)


_SHOWN = (
    *PATIENT_TABLES,
    *FEATURE_TABLES,
    *PROMPT_TABLES,
    "rejected_rows",
    "study_problems",
    "cv_splits",
    "fold_models",
    "frame_predictions",
    "video_attention",
    "patient_accuracy",
    "experiment_results",
    "check_in_claims",
    "check_in_attention",
    "external_results",
)
"""Tables that the pages are made from."""


def tables_state(warehouse: Warehouse, names: Collection[str], *extra: object) -> str | None:
    """Return a hash of the content of tables; None while there is no patient.

    Tables in the ledger are identified by their fingerprints, so that no picture is read; the others are small.
    """
    with warehouse.read() as connection:
        if not (connection.execute("select count(*) from patients").fetchone() or (0,))[0]:
            return None
        rows = connection.execute(
            "select table_name, count(*), bit_xor(hash(patient_id, subject, fingerprint)) from extractions "
            "group by table_name order by table_name"
        ).fetchall()
        in_ledger = {name for name, _, _ in rows}
        chosen = [row for row in rows if row[0] in names]
        others = [
            (name, connection.execute(f'select count(*), bit_xor(hash(t)) from "{name}" as t').fetchone())
            for name in sorted(set(names) - in_ledger)
        ]
    return fingerprint(chosen, others, *extra)


def _tables_read(sql_dir: Path) -> frozenset[str]:
    """Return the warehouse's tables that the SQL models read."""
    models = load_models(sql_dir).models.values()
    return frozenset(table for model in models for table in model.depends_on if table in TABLES)
