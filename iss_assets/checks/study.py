"""Suites over the study as a whole, with Great Expectations: cohorts, classes, answers, drift, groups.

The frames that the suites look at come from ``sql/study_*.sql``. They hold only counts and rates of the study, so that
nothing about a patient gets into results or pages. Great Expectations takes seconds to import and is imported only when
the suites run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from iss_assets.checks.data_docs import tidy_pages, write_index
from iss_assets.checks.findings import Finding
from iss_assets.loading import quick_loading
from iss_assets.protocol import terms
from iss_assets.protocol.catalogue import find
from iss_assets.settings import CheckSettings, Settings
from iss_assets.warehouse.database import Warehouse

if TYPE_CHECKING:
    from great_expectations.data_context import EphemeralDataContext
    from great_expectations.expectations.metadata_types import FailureSeverity

SQL = Path(__file__).parent / "sql"
SITE = "study"
ASSET = "study_expectations"
INFO = "info"
"""Severity of an expectation that is reported but fails no check: a goal that is met only at the study's end."""


@dataclass(frozen=True)
class Suite:
    """One suite: a check of the catalogue, its frame and its expectations.

    Attributes
    ----------
    name : str
        Name of the check and of the SQL file.
    complete : callable
        Adds rows for groups without patients, which SQL cannot know.
    expect : callable
        Returns the expectations for the settings.
    """

    name: str
    expect: Callable[[CheckSettings], list[Any]]
    complete: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame


def _with_every(column: str, values: Sequence[str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def complete(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.set_index(column).reindex(list(values)).fillna(0).reset_index()

    return complete


def _rejected(checks: CheckSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="rows",
            max_value=0,
            severity=_severity("warning"),
            notes="Everything in the study folder is used, or is reported by the check of an enrolled patient.",
        )
    ]


def _severity(name: str) -> FailureSeverity:
    """Return Great Expectations' own word for how bad it is that an expectation is missed."""
    from great_expectations.expectations.metadata_types import FailureSeverity

    return FailureSeverity(name)


def _cohorts(checks: CheckSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="patients",
            max_value=terms.COHORT_GOAL,
            severity=_severity("warning"),
            notes=f"The paper's Table 2: {terms.COHORT_GOAL} patients per cohort, not more.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="patients",
            min_value=1,
            severity=_severity("warning"),
            notes="No cohort of Table 2 stays empty.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="patients",
            min_value=terms.COHORT_GOAL,
            severity=_severity(INFO),
            notes="The goal of Table 2; it is met only at the end of enrollment, so it is for information.",
        ),
        gxe.ExpectColumnSumToBeBetween(
            column="patients",
            max_value=terms.ENROLLMENT_GOAL,
            severity=_severity("warning"),
            notes="The goal of the whole study, section 3.",
        ),
    ]


def _classes(checks: CheckSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="share",
            min_value=checks.class_share,
            severity=_severity("warning"),
            notes="The cohorts of Table 2 give each pain level a quarter of the patients.",
        )
    ]


def _scores(checks: CheckSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="missing_share",
            max_value=checks.score_missing_share,
            severity=_severity("warning"),
            notes="A question that many skip is hard to answer, or lost in the export.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="top_share",
            max_value=checks.score_top_share,
            severity=_severity("warning"),
            notes="A question with nearly always the same answer carries no information, or has a default that nobody changes.",
        ),
    ]


def _pain_by_level(checks: CheckSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeIncreasing(
            column="pain_now",
            severity=_severity("warning"),
            notes="Pain right now (question 1) and the worst pain before enrollment are ratings by the same patients.",
        )
    ]


def _drift(checks: CheckSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="change",
            min_value=-checks.drift_change,
            max_value=checks.drift_change,
            severity=_severity("warning"),
            notes="Usable videos, faces and landmarks are as frequent as in the months before.",
        )
    ]


def _groups(checks: CheckSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="excess",
            max_value=checks.group_gap,
            severity=_severity("warning"),
            notes="Flags are raised as often in women as in men, in dark skin as in light, and in pediatric patients as in adults.",
        )
    ]


SUITES = (
    Suite("study_rejected", _rejected),
    Suite("study_cohorts", _cohorts, _with_every("cohort", [c.number for c in terms.COHORTS])),
    Suite("study_classes", _classes, _with_every("pain_level", terms.PAIN_LEVELS)),
    Suite("study_scores", _scores),
    Suite("study_pain_by_level", _pain_by_level),
    Suite("study_drift", _drift),
    Suite("study_groups", _groups),
)


def read_frames(warehouse: Warehouse, settings: Settings) -> dict[str, pd.DataFrame]:
    """Read every suite's frame from one consistent state of the warehouse."""
    parameters = settings.checks.model_dump(include={"group_patients", "drift_videos"})
    frames = {}
    with warehouse.read() as connection:
        for suite in SUITES:
            sql = (SQL / f"{suite.name}.sql").read_text("utf-8")
            used = {k: v for k, v in parameters.items() if f"${k}" in sql}
            frames[suite.name] = suite.complete(connection.execute(sql, used).df())
    return frames


def run_suites(
    frames: dict[str, pd.DataFrame], settings: Settings, pages: Path
) -> dict[str, Finding | Exception]:
    """Validate every frame with its suite and write the Data Docs.

    Parameters
    ----------
    frames : dict
        Suite name to frame, from `read_frames`.
    settings : Settings
        Thresholds.
    pages : Path
        Folder of the Data Docs, replaced as a whole; the first page is ``index.html``.

    Returns
    -------
    dict
        Suite name to its finding, or to the error that kept it from running.
    """
    fresh = pages.with_name(f"{pages.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    context = _context(fresh)
    found: dict[str, Finding | Exception] = {}
    for suite in SUITES:
        try:
            found[suite.name] = _validate(context, suite, frames[suite.name], settings)
        except Exception as error:
            found[suite.name] = error
    context.build_data_docs()
    tidy_pages(fresh)
    titles = {suite.name: find(ASSET, suite.name).title for suite in SUITES}
    write_index(fresh, titles, found)
    shutil.rmtree(pages, ignore_errors=True)
    fresh.rename(pages)
    return found


def _context(pages: Path) -> EphemeralDataContext:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import; nothing is sent anywhere
    with quick_loading():
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for name in list(context.variables.data_docs_sites or {}):
        context.delete_data_docs_site(name)
    context.add_data_docs_site(
        site_name=SITE,
        site_config={
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(pages.resolve()),
            },
            # the class accepts this key, its type does not list it
            "show_how_to_buttons": False,  # type: ignore[typeddict-unknown-key]
        },
    )
    return context


def _validate(
    context: EphemeralDataContext, suite: Suite, frame: pd.DataFrame, settings: Settings
) -> Finding:
    import great_expectations as gx

    batch = (
        context.data_sources.add_pandas(suite.name)
        .add_dataframe_asset("study")
        .add_batch_definition_whole_dataframe("now")
    )
    expectations = context.suites.add(
        gx.ExpectationSuite(suite.name, expectations=suite.expect(settings.checks))
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=suite.name, data=batch, suite=expectations)
    )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=suite.name, validation_definitions=[definition], result_format="SUMMARY")
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": frame})
    (validation,) = outcome.run_results.values()
    for result in validation.results:
        if result.exception_info and _raised(result.exception_info):
            raise RuntimeError(f"an expectation of {suite.name} could not be evaluated")
    missed = [r.expectation_config for r in validation.results if not r.success and r.expectation_config]
    failed = [config for config in missed if config.severity != INFO]
    numbers = {
        "expectations": len(validation.results),
        "missed": [config.notes for config in failed],
        "for information": [config.notes for config in missed if config.severity == INFO],
        "rows": frame.astype(object).where(frame.notna(), None).to_dict("records"),
    }
    return Finding(not failed, (), numbers, "every expectation of the suite; see the Data Docs")


def _raised(info: dict[str, Any]) -> bool:
    entries = [info] if "raised_exception" in info else list(info.values())
    return any(entry.get("raised_exception") for entry in entries if isinstance(entry, dict))
