"""Submitted data: who is enrolled, what they answered, which videos they sent.

Belongs here: the first stage of the graph, straight from the study folder.
Does not belong here: anything that opens a picture or a sound.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from iss_assets.assets.common import describe, result
from iss_assets.partitions import patients_partitions
from iss_assets.resources import WarehouseResource
from iss_assets.settings import Settings
from iss_assets.warehouse import tables
from iss_assets.warehouse.database import Replacement
from iss_assets.warehouse.ledger import WHOLE, fingerprint, ledger_rows, read_ledger
from iss_assets.warehouse.schema import Table

SCORES_CODE_VERSION = "2"
"""Raised where the same survey row gives another row of ``bpi_scores``. 2: offsets are no longer lost, and the offset
that a time is written with decides its local day."""
STUDY = "*"
"""Stands for the patient id in ledger rows of tables about the whole study."""


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            **describe(
                tables.RejectedRows,
                "Everything that was refused, with file and line: nothing is dropped without a row here.",
                group="study",
                kinds={"python", "duckdb"},
            )
        ),
        dg.AssetSpec(
            **describe(
                tables.StudyProblems,
                "What was taken as it is but looks wrong: contradictions, surveys without video, ...",
                group="study",
                kinds={"python", "duckdb"},
            )
        ),
    ],
    name="read_study_folder",
)
def study_folder(warehouse: WarehouseResource) -> Iterator[dg.MaterializeResult]:
    """Read the study folder and keep what is wrong with it."""
    from iss_assets.study.folder import problem_rows, rejected_rows

    folder = warehouse.folder()
    made = {tables.RejectedRows: rejected_rows(folder), tables.StudyProblems: problem_rows(folder)}
    prints = {table: fingerprint(rows) for table, rows in made.items()}
    warehouse.warehouse().replace_all(
        [
            replacement
            for table, rows in made.items()
            for replacement in (
                Replacement(table, table.from_rows(rows), {}),
                ledger_entry(STUDY, table, prints[table], len(rows)),
            )
        ]
    )
    for table, rows in made.items():
        codes: dict[str, int] = {}
        for row in rows:
            codes[row["code"]] = codes.get(row["code"], 0) + 1
        yield result(table, len(rows), prints[table], {"by kind": dg.MetadataValue.json(codes)})


@dg.asset(
    **describe(
        tables.Patients,
        "From `enrollment.csv`, with pain level and skin group worked out.",
        group="study",
        kinds={"python", "duckdb"},
    ),
    partitions_def=patients_partitions,
)
def patients(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Keep one patient's enrollment."""
    from iss_assets.study.folder import patient_rows

    rows = patient_rows(warehouse.folder(), context.partition_key)
    return keep_patient_rows(warehouse, tables.Patients, context.partition_key, rows)


@dg.asset(
    **describe(
        tables.BpiScores,
        "Questions 1 to 9 of the Brief Pain Inventory, from `surveys.csv`; answers left out stay empty.",
        group="study",
        kinds={"python", "duckdb"},
    ),
    partitions_def=patients_partitions,
    deps=["patients"],
)
def bpi_scores(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Keep one patient's answers."""
    from iss_assets.study.folder import score_rows

    rows = score_rows(warehouse.folder(), context.partition_key)
    missing = sum(r["missing_scores"] for r in rows)
    return keep_patient_rows(
        warehouse,
        tables.BpiScores,
        context.partition_key,
        rows,
        {
            "missing scores": missing,
            "local time by": dg.MetadataValue.json(dict(Counter(r["utc_offset_source"] for r in rows))),
        },
        mark=scores_fingerprint(rows),
    )


@dg.asset(
    **describe(
        tables.Videos,
        "Every narrative video with its hash and what its container says. Unreadable ones stay, with the reason.",
        group="study",
        kinds={"python", "duckdb"},
    ),
    partitions_def=patients_partitions,
    deps=["patients"],
)
def videos(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """Hash and probe one patient's video files; a file that did not change is not opened again."""
    from iss_assets.media.inventory import describe_video

    patient, settings = context.partition_key, warehouse.settings()
    with warehouse.warehouse().read() as connection:
        held = connection.execute("select * from videos where patient_id = ?", [patient]).to_arrow_table()
        current = read_ledger(connection, patient).get((patient, WHOLE, "videos"), "")
    known = {row["video_id"]: row for row in held.to_pylist()}
    files = warehouse.folder().videos_of(patient)
    trust = current.startswith(f"{inventory_version(settings)}-")
    rows = [
        describe_video(video, known.get(video.submission_id), settings.video, trust_probe=trust)
        for video in files
    ]
    unreadable = [r["video_id"] for r in rows if r["status"] != "ok"]
    return keep_patient_rows(
        warehouse,
        tables.Videos,
        patient,
        rows,
        {"unreadable": len(unreadable), "unreadable videos": unreadable},
        mark=videos_fingerprint(files, settings),
    )


def scores_fingerprint(rows: Sequence[Mapping[str, Any]]) -> str:
    """Give the ledger's mark of a patient's answers."""
    return fingerprint(SCORES_CODE_VERSION, rows)


def inventory_version(settings: Settings) -> str:
    """Give the version of the probe and its settings."""
    from iss_assets.media.inventory import INVENTORY_CODE_VERSION
    from iss_assets.media.timeline import TIMELINE_CODE_VERSION

    video = settings.video
    limits = (video.max_pixels, video.max_seconds, video.min_seconds, video.longest_pause_s)
    return fingerprint(INVENTORY_CODE_VERSION, TIMELINE_CODE_VERSION, limits)


def videos_fingerprint(files: Sequence[Any], settings: Settings) -> str:
    """Give the ledger's mark of a patient's videos: probe version, then the listing of files."""
    listing = [(f.submission_id, f.name, f.size, f.mtime_ns, f.prompt_path is not None) for f in files]
    return f"{inventory_version(settings)}-{fingerprint(sorted(listing))}"


def ledger_entry(patient: str, table: type[Table], mark: str, rows: int) -> Replacement:
    """Give the ledger's replacement that says: this table of this patient is current."""
    return Replacement(
        tables.Extractions,
        ledger_rows([(patient, WHOLE, table.__table__, mark, rows)]),
        {"patient_id": patient, "table_name": table.__table__},
    )


def keep_patient_rows(
    warehouse: WarehouseResource,
    table: type[Table],
    patient: str,
    rows: Sequence[Mapping[str, Any]],
    metadata: Mapping[str, Any] | None = None,
    mark: str | None = None,
) -> dg.MaterializeResult:
    """Replace a patient's rows of a table and mark them current, in one transaction."""
    mark = mark or fingerprint(rows)
    warehouse.warehouse().replace_all(
        [
            Replacement(table, table.from_rows([dict(r) for r in rows]), {"patient_id": patient}),
            ledger_entry(patient, table, mark, len(rows)),
        ]
    )
    return result(table, len(rows), mark, metadata)
