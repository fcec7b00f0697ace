"""An assessment after PROBAST+AI, filled from the run record as far as possible, never guessed.

Moons et al., "PROBAST+AI", BMJ 2025;388:e082505: four domains (participants and data sources, predictors, outcome, analysis), a
part on development and one on evaluation, applicability for the first three. The questions here are in our own words and
numbers and shorter than the tool's; they do not replace its form.

Each answer is a rule over `RunFacts`. A fact that nobody recorded leaves the question to the authors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

YES, PROBABLY, PROBABLY_NOT, NO = "yes", "probably yes", "probably no", "no"
AUTHORS: Final = "for the authors"
LOW, HIGH, UNCLEAR = "low", "high", "unclear"

DOMAINS: Final = ("Participants and data sources", "Predictors", "Outcome", "Analysis")
DEVELOPMENT, EVALUATION = "development", "evaluation"

EVENTS: Final = 100
"""Patients with and patients without the outcome that an evaluation should have at least (Collins, Ogundimu and Altman,
Statistics in Medicine 35, 2016)."""
PER_PREDICTOR: Final = 20
"""Patients of the rarer class per candidate predictor that PROBAST asks a development for; 10 are the least. Models that learn
from more flexible combinations need more (van der Ploeg et al., BMC Med. Res. Methodol. 14, 2014)."""
FEW_MISSING: Final = 0.05
"""Share of rows with a missing answer up to which imputing single values is taken for harmless."""
RECALL_DAYS: Final = 30
"""Days that the outcome asks about: worst pain in the thirty days before enrollment."""


@dataclass(frozen=True)
class RunFacts:
    """What is recorded of a run; None where nothing is.

    Attributes
    ----------
    invented : bool
        Whether the patients are invented.
    enrolled, analyzed : int or None
        Patients in the study, and those whose data are in the evaluation.
    events, others : int or None
        Analyzed patients with and without pain.
    reads_answers : bool or None
        Whether any model reads the questionnaire.
    fewest_columns : int or None
        Predictors of the model with the fewest.
    quality_differs : bool or None
        Whether a measure of the recordings' quality goes along with pain, after correction.
    missing_share : float or None
        Share of questionnaires with a missing answer.
    missing_scores : str or None
        What is done about them: ``impute`` or ``leave_out``.
    gap_days : float or None
        Median days from enrollment, when the outcome was asked, to a video.
    first_gap_days : float or None
        The smallest such gap.
    splits : int or None
        Splits over whole patients in which models were evaluated.
    canaries_run, canaries_failed : int or None
        Leakage alarms tested, and those that went off.
    class_weights : bool or None
        Whether classes were weighted in training.
    intervals, calibrated, rules : bool or None
        Whether figures have intervals over patients, calibration was measured, and simple rules were evaluated.
    small_groups, groups : int or None
        Groups of patients too small to say anything about, and groups in all.
    trained_here : bool
        Whether the models were trained in this study.
    """

    invented: bool = False
    enrolled: int | None = None
    analyzed: int | None = None
    events: int | None = None
    others: int | None = None
    reads_answers: bool | None = None
    fewest_columns: int | None = None
    quality_differs: bool | None = None
    missing_share: float | None = None
    missing_scores: str | None = None
    gap_days: float | None = None
    first_gap_days: float | None = None
    splits: int | None = None
    canaries_run: int | None = None
    canaries_failed: int | None = None
    class_weights: bool | None = None
    intervals: bool | None = None
    calibrated: bool | None = None
    rules: bool | None = None
    small_groups: int | None = None
    groups: int | None = None
    trained_here: bool = True


Found = tuple[str, str]
"""An answer, and the facts behind it."""


@dataclass(frozen=True)
class Question:
    """One question: domain (from 1), what is asked, in which parts it counts, and the rule that answers it."""

    domain: int
    asked: str
    parts: tuple[str, ...]
    rule: Callable[[RunFacts], Found]


@dataclass(frozen=True)
class Answered:
    """A question with its answer.

    Attributes
    ----------
    number, domain, asked : str
        Number on this page, name of the domain, and what is asked.
    parts : tuple of str
        `DEVELOPMENT`, `EVALUATION`, or both.
    answer, why : str
        The answer, and the facts behind it.
    """

    number: str
    domain: str
    asked: str
    parts: tuple[str, ...]
    answer: str
    why: str

    @property
    def open(self) -> bool:
        """Whether the authors must answer."""
        return self.answer == AUTHORS


def _authors(why: str = "Not in the data.") -> Found:
    return AUTHORS, why


def _sources(f: RunFacts) -> Found:
    if f.invented:
        return NO, "The patients are invented."
    return _authors("Whether a cohort that sends videos of itself is the right source for the intended use.")


def _inclusions(f: RunFacts) -> Found:
    if f.enrolled is None or f.analyzed is None:
        return _authors()
    if f.enrolled == f.analyzed:
        return YES, f"All {f.enrolled} enrolled patients are analyzed."
    left = f.enrolled - f.analyzed
    share = left / f.enrolled
    said = f"{left} of {f.enrolled} enrolled patients are not analyzed ({share:.0%}), by fixed rules that do not look at pain."
    return (PROBABLY if share <= FEW_MISSING else PROBABLY_NOT), said


def _representative(f: RunFacts) -> Found:
    return _authors("Who was asked and declined is not in the data.")


def _alike(f: RunFacts) -> Found:
    if f.quality_differs is None:
        return _authors("Whether the recordings’ quality goes along with pain has not been tested.")
    same = "The same code and settings measure every patient"
    if f.quality_differs:
        return PROBABLY_NOT, f"{same}, but the quality of the recordings goes along with pain."
    return YES, f"{same}, and no measure of the recordings’ quality is shown to go along with pain."


def _blind(f: RunFacts) -> Found:
    if f.reads_answers is None:
        return _authors("No model has been evaluated.")
    if f.reads_answers:
        return NO, "Some models read answers, which patients give who know their own outcome."
    return YES, "All predictors are measured by software, which does not read the outcome."


def _available(f: RunFacts) -> Found:
    return YES, "Everything that a model reads comes from the check-in itself, or is known since enrollment."


def _defined(f: RunFacts) -> Found:
    return (
        YES,
        "Worst pain on the scale of the Brief Pain Inventory, with fixed levels, the same for everybody.",
    )


def _excluded(f: RunFacts) -> Found:
    if f.reads_answers is None:
        return _authors("No model has been evaluated.")
    if f.reads_answers:
        return (
            PROBABLY_NOT,
            "Some models read later answers about pain, which are of the same kind as the outcome though not part of it.",
        )
    return YES, "No model reads an answer."


def _outcome_blind(f: RunFacts) -> Found:
    if f.first_gap_days is None:
        return _authors("The days of enrollment and check-ins are not recorded here.")
    if f.first_gap_days < 0:
        return NO, "Some videos are older than the enrollment at which the outcome was asked."
    return YES, "The outcome was asked at enrollment, before the first video."


def _interval(f: RunFacts) -> Found:
    if f.gap_days is None:
        return _authors("The days of enrollment and check-ins are not recorded here.")
    said = f"The outcome is about the {RECALL_DAYS} days before enrollment; videos follow {f.gap_days:.0f} days later (median)."
    if f.gap_days <= 1:
        return PROBABLY, said
    return (PROBABLY_NOT if f.gap_days <= RECALL_DAYS else NO), said


def _sample_developed(f: RunFacts) -> Found:
    if f.events is None or f.others is None or f.fewest_columns is None:
        return _authors("No model has been trained.")
    rarer = min(f.events, f.others)
    each = rarer / f.fewest_columns
    said = (
        f"{f.events} patients with and {f.others} without pain; the model with the fewest predictors has {f.fewest_columns}: "
        f"{each:.1f} patients of the rarer class for each."
    )
    return (YES if each >= PER_PREDICTOR else PROBABLY_NOT if each >= PER_PREDICTOR / 2 else NO), said


def _sample_evaluated(f: RunFacts) -> Found:
    if f.events is None or f.others is None:
        return _authors("No model has been evaluated.")
    said = f"{f.events} patients with and {f.others} without pain; at least {EVENTS} of each are asked for."
    return (YES if min(f.events, f.others) >= EVENTS else NO), said


def _missing(f: RunFacts) -> Found:
    if f.missing_share is None:
        return _authors("Not recorded here.")
    if f.missing_share == 0:
        return YES, "No answer is missing."
    share = f"{f.missing_share:.0%} of questionnaires lack an answer; "
    if f.missing_scores == "leave_out":
        return NO, f"{share}those without any are left out (training.missing_scores)."
    said = f"{share}single values are imputed by medians of the training side, with a flag."
    return (PROBABLY if f.missing_share <= FEW_MISSING else PROBABLY_NOT), said


def _optimism(f: RunFacts) -> Found:
    if not f.splits:
        return _authors("No model has been evaluated.")
    return (
        YES,
        f"Cross-validation over whole patients in {f.splits} splits; preparation is fitted on the training side, and nothing is "
        "tuned or chosen by the results.",
    )


def _leakage(f: RunFacts) -> Found:
    if not f.trained_here:
        return YES, "Nobody here was trained on; patients whom the training study has, too, are left out."
    if not f.canaries_run:
        return _authors("No leakage alarm has been tested.")
    if f.canaries_failed:
        return NO, f"{f.canaries_failed} of {f.canaries_run} leakage alarms went off (section 9)."
    return YES, f"None of {f.canaries_run} leakage alarms went off (section 9)."


def _imbalance(f: RunFacts) -> Found:
    if f.class_weights is None:
        return _authors("No model has been trained.")
    if f.class_weights:
        return (
            NO,
            "Classes are weighted in training, which shifts probabilities, and they are not recalibrated.",
        )
    return YES, "Neither resampling nor class weights: probabilities are not shifted by them."


def _measures(f: RunFacts) -> Found:
    if f.calibrated is None or f.intervals is None:
        return _authors("No model has been evaluated.")
    lacks = [name for name, there in (("calibration", f.calibrated), ("intervals", f.intervals)) if not there]
    if lacks:
        return NO, f"Discrimination only: without {' and '.join(lacks)}."
    return YES, "Accuracy, discrimination and calibration, with intervals over patients."


def _compared(f: RunFacts) -> Found:
    if f.rules is None:
        return _authors("No model has been evaluated.")
    return (
        (YES, "Beside simple rules on the same patients.")
        if f.rules
        else (NO, "No simple rule was evaluated.")
    )


def _fair(f: RunFacts) -> Found:
    if not f.groups:
        return _authors("Groups of patients have not been compared.")
    small = f.small_groups or 0
    said = f"{f.groups} groups of patients are compared; {small} of them are too small to say anything about."
    return (YES if not small else PROBABLY_NOT), said


def _elsewhere(f: RunFacts) -> Found:
    if not f.trained_here:
        return YES, "These are patients of another study than the one that trained the models."
    return NO, "Only on the study’s own patients left out. To apply the models elsewhere: iss predict."


_BOTH = (DEVELOPMENT, EVALUATION)
QUESTIONS: Final = (
    Question(1, "Appropriate sources of data?", _BOTH, _sources),
    Question(1, "Appropriate inclusions and exclusions?", _BOTH, _inclusions),
    Question(1, "Do patients represent those the model is meant for?", _BOTH, _representative),
    Question(2, "Predictors defined and assessed alike for everybody?", _BOTH, _alike),
    Question(2, "Predictors assessed without knowing the outcome?", _BOTH, _blind),
    Question(2, "All predictors available when the model is used?", _BOTH, _available),
    Question(3, "Outcome of a standard definition, the same for everybody?", _BOTH, _defined),
    Question(3, "Predictors kept out of the outcome’s definition?", _BOTH, _excluded),
    Question(3, "Outcome determined without knowing predictors?", _BOTH, _outcome_blind),
    Question(3, "Appropriate time between predictors and outcome?", _BOTH, _interval),
    Question(4, "Enough patients with and without the outcome to develop a model?", (DEVELOPMENT,), _sample_developed),
    Question(4, "Enough patients with and without the outcome to evaluate one?", (EVALUATION,), _sample_evaluated),
    Question(4, "Missing data handled appropriately?", _BOTH, _missing),
    Question(4, "Overfitting and optimism dealt with?", (DEVELOPMENT,), _optimism),
    Question(4, "No leakage between training and evaluation?", _BOTH, _leakage),
    Question(4, "Class imbalance handled without distorting probabilities?", (DEVELOPMENT,), _imbalance),
    Question(4, "Relevant measures of performance, with calibration and uncertainty?", (EVALUATION,), _measures),
    Question(4, "Compared with simpler rules?", (EVALUATION,), _compared),
    Question(4, "Groups of patients compared, to judge fairness?", (EVALUATION,), _fair),
    Question(4, "Evaluated on patients of another setting or time?", (EVALUATION,), _elsewhere),
)  # fmt: skip


def assess(facts: RunFacts) -> list[Answered]:
    """Answer every question from the facts; on models of another study only those of the evaluation."""
    count: dict[int, int] = {}
    answered = []
    for question in QUESTIONS:
        if not facts.trained_here and EVALUATION not in question.parts:
            continue
        count[question.domain] = count.get(question.domain, 0) + 1
        answer, why = question.rule(facts)
        answered.append(
            Answered(
                f"{question.domain}.{count[question.domain]}",
                DOMAINS[question.domain - 1],
                question.asked,
                question.parts,
                answer,
                why,
            )
        )
    return answered


def rate(answers: Sequence[Answered], part: str) -> dict[str, str]:
    """Rate each domain of a part, and all together: high with any "no" or "probably no", unclear with a question left open.

    Returns
    -------
    dict of str to str
        Domain, or ``Overall``, to `LOW`, `HIGH` or `UNCLEAR`.
    """
    rated = {}
    for domain in DOMAINS:
        own = [a.answer for a in answers if a.domain == domain and part in a.parts]
        rated[domain] = (
            HIGH if NO in own or PROBABLY_NOT in own else UNCLEAR if AUTHORS in own or not own else LOW
        )
    found = set(rated.values())
    rated["Overall"] = HIGH if HIGH in found else UNCLEAR if UNCLEAR in found else LOW
    return rated


def summary(facts: RunFacts) -> dict[str, object]:
    """Return what the macro ``probast`` of the templates shows: answers, ratings, and applicability."""
    answers = assess(facts)
    parts = [(DEVELOPMENT, "Concern about the quality of the development")] if facts.trained_here else []
    parts.append((EVALUATION, "Risk of bias of the evaluation"))
    return {
        "answers": answers,
        "open": sum(a.open for a in answers),
        "ratings": [(name, rate(answers, part)) for part, name in parts],
        "domains": [*DOMAINS, "Overall"],
        "applicability": [
            (
                DOMAINS[0],
                "Patients with cancer who film themselves in a study. Whether the review’s patients are like them: for the authors.",
            ),
            (
                DOMAINS[1],
                "Needs a video, and for some models the questionnaire. Whether both are at hand in use: for the authors.",
            ),
            (
                DOMAINS[2],
                "Worst pain before enrollment, one value per patient: not the pain in a video. Whether that is the outcome in "
                "question: for the authors.",
            ),
        ],
    }
