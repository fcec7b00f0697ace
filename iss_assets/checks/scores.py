"""Rules on enrollment and on the nine answers: missing, rejected, repeated, too frequent, too rare.

Pure functions from a patient's rows (``sql/``) to a `Finding`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from iss_assets.checks.findings import Data, Finding, Row, Rule, found_in
from iss_assets.protocol import terms
from iss_assets.settings import Settings

QUERIES: Final = ("enrollment", "scores", "video_surveys", "rejected")
NUMERIC: Final = tuple(name for name in terms.SCORES if name != "chronic_pain")
WEEKS: Final = 13
"""Three months of enrollment (the paper's Table 3)."""


def cohort_contradiction(data: Data, settings: Settings) -> Finding:
    """Compare the stated cohort with sex, skin type and pain target (the paper's Table 2)."""
    (row,) = data["enrollment"]
    expected = terms.cohort_of(row["pain_target"], row["skin_type"], row["sex"])
    passed = (
        row["cohort"] == expected
        and row["pain_level"] == terms.pain_level(row["pain_target"])
        and row["skin_group"] == terms.skin_group(row["skin_type"])
    )
    return Finding(
        passed, (), {"stated": row["cohort"], "by sex, skin type and pain target": expected}, "equal"
    )


def missing_scores(data: Data, settings: Settings) -> Finding:
    """Find surveys with missing answers; an error for a patient without a single answer, like the paper's 0015.

    Answers that were given but could not be used are not missing: `rejected_answers` reports them.
    """
    refused = {(r["submission_id"], r["column_name"]) for r in data["rejected"]}
    unread = {submission for submission, column in refused if not column}
    blank: dict[str, list[str]] = {
        r["submission_id"]: names
        for r in data["scores"]
        if (names := [n for n in terms.SCORES if r[n] is None and (r["submission_id"], n) not in refused])
    }
    nothing = not _has_answers(data)
    without = (
        {r["video_id"] for r in data["video_surveys"] if not r["has_survey"]} - unread if nothing else set()
    )
    submissions = len(data["scores"]) + len(without)
    items = Counter(name for names in blank.values() for name in names)
    lost = nothing and bool(blank or without)
    return found_in(
        {*blank, *without},
        submissions,
        f"all {len(terms.SCORES)} answered",
        {
            "missing answers": sum(items.values()) + len(terms.SCORES) * len(without),
            "answers asked for": len(terms.SCORES) * submissions,
            "without any answer": sum(len(n) == len(terms.SCORES) for n in blank.values()) + len(without),
            "missing by question": dict(items),
        },
        severity="ERROR" if lost else None,
        lost=lost,
    )


def _has_answers(data: Data) -> bool:
    return any(r["missing_scores"] < len(terms.SCORES) for r in data["scores"])


def rejected_answers(data: Data, settings: Settings) -> Finding:
    """Find cells and rows of the survey file that were rejected; the values themselves are never reported."""
    rows = data["rejected"]
    affected = {r["submission_id"] for r in rows if r["submission_id"]}
    sent = affected | {r["submission_id"] for r in data["scores"]}
    found = found_in(affected, len(sent), "none")
    numbers = {
        **found.numbers,
        "rejected": len(rows),
        "by reason": dict(Counter(r["code"] for r in rows)),
        "lines": sorted({r["line"] for r in rows})[:20],
    }
    return Finding(not rows, found.affected, numbers, "none")


def same_answers_for_weeks(data: Data, settings: Settings) -> Finding:
    """Find answers given out of habit: the same questionnaire over and over, or one number for every question.

    All zeros are the expected answers at level None and do not count there.
    """
    free = data["enrollment"][0]["pain_level"] == terms.PAIN_LEVELS[0] if data["enrollment"] else False
    rows = [
        r for r in _dated(data) if not r["missing_scores"] and not (free and not any(r[n] for n in NUMERIC))
    ]
    checks = settings.checks

    def alike(first: Row, second: Row) -> bool:
        return all(first[n] == second[n] for n in terms.SCORES)

    def flat(first: Row, second: Row) -> bool:
        return all(len({r[n] for n in NUMERIC}) == 1 for r in (first, second))

    affected: set[str] = set()
    longest = {"longest repetition in days": 0, "longest run of one number in days": 0}
    for name, same in zip(longest, (alike, flat), strict=True):
        for run in _runs(rows, same):
            days = (run[-1]["day"] - run[0]["day"]).days
            longest[name] = max(longest[name], days if len(run) > 1 else 0)
            if len(run) >= checks.same_answers_submissions and days >= checks.same_answers_days:
                affected |= {r["submission_id"] for r in run}
    return found_in(
        affected,
        len(data["scores"]),
        f"less than {checks.same_answers_days} days or {checks.same_answers_submissions} questionnaires in a row",
        longest,
    )


def _runs(rows: Sequence[Row], same: Callable[[Row, Row], bool]) -> list[list[Row]]:
    runs: list[list[Row]] = []
    for row in rows:
        if runs and same(runs[-1][-1], row):
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def chronic_pain_flips(data: Data, settings: Settings) -> Finding:
    """Find a yes that became a no.

    Question 2 asks about pain for more than three months. A no may become a yes during the three months of enrollment; a
    yes cannot become a no from one check-in to the next.
    """
    rows = [r for r in _dated(data) if r["chronic_pain"] is not None]
    flips = [b["submission_id"] for a, b in pairwise(rows) if a["chronic_pain"] and not b["chronic_pain"]]
    return found_in(flips, len(rows), "a yes stays a yes")


def more_than_one_a_day(data: Data, settings: Settings) -> Finding:
    """Find local days with more than one submission."""
    days: dict[date, list[str]] = defaultdict(list)
    for row in _dated(data):
        days[row["day"]].append(row["submission_id"])
    crowded = {day: ids for day, ids in days.items() if len(ids) > 1}
    return found_in(
        (i for ids in crowded.values() for i in ids),
        len(data["scores"]),
        "at most 1 per day",
        {"days": len(crowded)},
    )


def complete_weeks(enrollment: Row) -> int:
    """Count the weeks of a patient's enrollment that are over.

    A week is over when it ends before the latest submission of any patient, so the result does not depend on today's date.
    It grows while others submit, so patients who stop submitting are found as well.

    Parameters
    ----------
    enrollment : mapping
        A row of ``enrollment.sql``.
    """
    first, last = enrollment.get("first_day"), enrollment.get("last_day")
    if first is None or last is None:
        return 0
    return min(WEEKS, max(0, (last - first).days // 7))


def fewer_than_three_a_week(data: Data, settings: Settings) -> Finding:
    """Find complete weeks of the enrollment with fewer than three days on which something was submitted.

    Submissions without a known day may belong to any week, so a week that they could fill does not count as short.
    """
    days = {r["day"] for r in _dated(data)}
    undated = len(data["scores"]) - len(_dated(data))
    enrollment = data["enrollment"][0] if data["enrollment"] else {}
    weeks = [enrollment["first_day"] + timedelta(weeks=week) for week in range(complete_weeks(enrollment))]
    counts = [sum(first <= day <= first + timedelta(days=6) for day in days) for first in weeks]
    short = [
        number for number, count in enumerate(counts, start=1) if count + undated < terms.WEEKLY_SUBMISSIONS
    ]
    numbers = {"weeks": len(counts), "short weeks": len(short), "numbers of the short weeks": short}
    return Finding(not short, (), numbers, f"at least {terms.WEEKLY_SUBMISSIONS} per week")


def days_without_check_in(enrollment: Row, last_check_in: date | None) -> int:
    """Count the days since a patient's last check-in, or since enrollment before the first.

    Counted to the last day that the study as a whole has seen, so that the result does not depend on the day on which
    it is asked for and a finished study stays quiet; not beyond the thirteen weeks of enrollment.

    Parameters
    ----------
    enrollment : mapping
        A row of ``enrollment.sql``.
    last_check_in : date, optional
        The patient's newest local day with a submission.
    """
    first, last = enrollment.get("first_day"), enrollment.get("last_day")
    if first is None or last is None:
        return 0
    until = min(last, first + timedelta(weeks=WEEKS))
    return max(0, (until - (last_check_in or first)).days)


def no_check_in(data: Data, settings: Settings) -> Finding:
    """Find a patient whose last check-in is too many days ago.

    Our own rule and not one of Dagster's freshness checks: those compare the time at which an asset was materialized,
    and not per partition, while a patient's partition is materialized whenever a file, a setting or the code changes.
    A submission of which no day is known may be the newest, so then nobody is called silent.
    """
    limit, dated = settings.checks.no_check_in_days, _dated(data)
    enrollment = data["enrollment"][0] if data["enrollment"] else {}
    last = max((row["day"] for row in dated), default=None)
    days = days_without_check_in(enrollment, last)
    silent = bool(limit) and days >= limit and len(dated) == len(data["scores"])
    threshold = f"a check-in every {limit} days" if limit else "switched off (checks.no_check_in_days)"
    return Finding(not silent, (), {"days": days}, threshold)


def unknown_time(data: Data, settings: Settings) -> Finding:
    """Find submissions whose UTC offset is in neither the tables nor the settings."""
    rows = data["scores"]
    return found_in((r["submission_id"] for r in rows if r["day"] is None), len(rows), "each with an offset")


def _dated(data: Data) -> list[Row]:
    """Return the surveys whose local day is known, in order of time."""
    return [r for r in data["scores"] if r["day"] is not None]


def survey_without_video(data: Data, settings: Settings) -> Finding:
    """Find surveys without a video."""
    rows = data["scores"]
    return found_in((r["submission_id"] for r in rows if not r["has_video"]), len(rows), "each with a video")


def video_without_survey(data: Data, settings: Settings) -> Finding:
    """Find videos without a survey, for patients who answered other surveys.

    If nothing was answered at all, `missing_scores` reports it; `rejected_answers` reports rows that could not be read.
    """
    rows, rejected = data["video_surveys"], {r["submission_id"] for r in data["rejected"]}
    missing = [r["video_id"] for r in rows if not r["has_survey"] and r["video_id"] not in rejected]
    return found_in(missing if _has_answers(data) else (), len(rows), "each with a survey")


ENROLLMENT_RULES: Final[dict[str, Rule]] = {"cohort_contradiction": cohort_contradiction}
RULES: Final[dict[str, Rule]] = {
    rule.__name__: rule
    for rule in (
        missing_scores,
        rejected_answers,
        same_answers_for_weeks,
        chronic_pain_flips,
        more_than_one_a_day,
        fewer_than_three_a_week,
        no_check_in,
        unknown_time,
        survey_without_video,
        video_without_survey,
    )
}
