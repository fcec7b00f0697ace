"""The TRIPOD+AI checklist, filled from the study's metadata as far as possible.

The items are in our own words. What only the authors can know is marked and never guessed.

Collins et al., "TRIPOD+AI statement", BMJ 2024;385:e078378: 27 items, some in parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AUTHORS = "for the authors"


@dataclass(frozen=True)
class Item:
    """One part of the checklist: number, what is asked, the answer, and whether authors must still give one."""

    number: str
    asked: str
    answer: str
    open: bool


_ASKED = (
    ("1", "Title says that a prediction model is developed or evaluated, for whom and for what", None),
    ("2", "Abstract by TRIPOD+AI for Abstracts", None),
    ("3a", "Health context, rationale, existing models", None),
    ("3b", "Target population, purpose, intended users", None),
    ("3c", "Known health inequalities between groups", None),
    ("4", "Objectives; development or evaluation", "objectives"),
    ("5a", "Sources of data, for development and evaluation", "data"),
    ("5b", "Dates of participants' data", "dates"),
    ("6a", "Setting, number and place of centers", "setting"),
    ("6b", "Eligibility", None),
    ("6c", "Treatments received, and how they were handled", None),
    ("7", "Data preparation and quality checks, the same for all groups or not", "preparation"),
    ("8a", "Outcome: definition, time, how and when assessed", "outcome"),
    ("8b", "Outcome assessors, if it needs judgement", "assessors"),
    ("8c", "Blinding of the outcome's assessment", None),
    ("9a", "Choice of first predictors", "predictors"),
    ("9b", "Predictors: definition, how and when measured", "predictors_defined"),
    ("9c", "Predictors that need judgment: assessors", "predictor_assessors"),
    ("10", "Sample size and its reason", "sample_size"),
    ("11", "Missing data", "missing"),
    ("12a", "How data were used; partition", "partition"),
    ("12b", "Handling of predictors", "handling"),
    ("12c", "Type of model, building, tuning, internal validation", "models"),
    ("12d", "Differences between clusters", "clusters"),
    ("12e", "Measures of performance and plots", "measures"),
    ("12f", "Updating of the model", "updating"),
    ("12g", "How predictions are calculated", "calculation"),
    ("13", "Class imbalance", "imbalance"),
    ("14", "Fairness", "fairness"),
    ("15", "Model output and thresholds", "output"),
    ("16", "Differences between development and evaluation data", "difference"),
    ("17", "Ethical approval and consent", None),
    ("18a", "Funding", None),
    ("18b", "Conflicts of interest", None),
    ("18c", "Protocol", None),
    ("18d", "Registration", None),
    ("18e", "Availability of data", None),
    ("18f", "Availability of code", "code"),
    ("19", "Patient and public involvement", None),
    ("20a", "Flow of participants", "flow"),
    ("20b", "Characteristics, with missing data", "characteristics"),
    ("20c", "Comparison of development and evaluation participants", "difference"),
    ("21", "Participants and outcome events in each analysis", "events"),
    ("22", "The full model, so that others can predict with it", "specification"),
    ("23a", "Performance with intervals, also in groups", "performance"),
    ("23b", "Differences of performance between clusters", "clusters"),
    ("24", "Results of updating", "updating"),
    ("25", "Interpretation, with fairness", None),
    ("26", "Limitations", "limitations"),
    ("27a", "Input of poor quality or missing when used", "poor_input"),
    ("27b", "Users' interaction and expertise", None),
    ("27c", "Next steps of research", None),
)


def checklist(answers: Mapping[str, str]) -> list[Item]:
    """Fill the checklist; mark a part without an answer in `answers` as one for the authors."""
    return [
        Item(number, asked, answers.get(key or "", AUTHORS), (key or "") not in answers)
        for number, asked, key in _ASKED
    ]
