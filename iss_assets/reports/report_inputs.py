"""What the study report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from iss_assets.evaluation.frames import Rows, frame_or_empty
from iss_assets.reports.gallery import MartFigure
from iss_assets.reports.review_summary import ReviewSummary
from iss_assets.reports.templating import STUDY
from iss_assets.settings import EvaluationSettings


@dataclass(frozen=True)
class StudyReportInputs:
    """The tables and facts of a study report; tables are the warehouse's, as Arrow tables or pandas frames.

    Attributes
    ----------
    patients, bpi_scores, videos, video_quality
        The tables of those names. Of ``videos`` only ids, status and duration are read.
    extracted
        One row per video: ``video_id``, ``patient_id``, ``frames``, ``faces``, ``landmarks`` (meshes found).
    cv_splits, fold_models, patient_accuracy, experiment_results
        The tables of those names; None where nothing has been trained.
    relabelled
        Experiments trained on a pain level that has been corrected since; see `comparable.relabelled`.
    not_trained
        Experiments that could not be trained, each with the reason.
    without_consent
        Patients left out because they have not consented to research.
    evaluation
        Further evaluation tables by name, as `evaluate_study` returns them; the page says which are missing.
    rejected_rows, study_problems
        The tables of those names.
    reviews
        What people decided about flags and videos.
    study_figures
        Headings with their figures: what the study looks like, as on the study page.
    settings
        ``Settings().model_dump(mode="json")``; only the sections of `report_settings.SHOWN_SETTINGS` are printed.
    evaluation_settings
        Coverage and cell size for the text.
    study_name
        Heading.
    invented
        Whether the patients are invented (the sample study).
    made_at
        Time of the report; now if None.
    versions
        Name to version of the software behind the figures.
    """

    patients: Rows
    bpi_scores: Rows
    videos: Rows
    video_quality: Rows
    extracted: Rows
    cv_splits: Rows | None = None
    fold_models: Rows | None = None
    patient_accuracy: Rows | None = None
    experiment_results: Rows | None = None
    relabelled: Sequence[str] = ()
    not_trained: Mapping[str, str] = field(default_factory=dict)
    without_consent: Sequence[str] = ()
    evaluation: Mapping[str, Rows] = field(default_factory=dict)
    rejected_rows: Rows | None = None
    study_problems: Rows | None = None
    reviews: ReviewSummary = field(default_factory=ReviewSummary)
    study_figures: Sequence[tuple[str, Sequence[MartFigure]]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation_settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    study_name: str = STUDY
    invented: bool = False
    made_at: datetime | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def frame(self, name: str) -> pd.DataFrame:
        """Return a table by its name as a pandas frame, without rows where it was not provided."""
        given = getattr(self, name, None)
        return frame_or_empty(self.evaluation if given is None else {name: given}, name)
