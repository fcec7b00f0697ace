"""Which runs the study needs now: one pure function from the state of the study to the runs to request.

A subject is a patient, the words of one, the study folder as a whole, or the marts. Its *state* is a hash of what it is to
be made from and of what is recorded of it now, so a run that achieved anything changes it. Runs are requested for a state, and
failures are counted per state: new files, new settings or new code make a new one and are tried at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from iss_assets.settings import SensorSettings

STUDY = "study_folder"
"""Subject and job of what is wrong with the study folder."""
MARTS = "marts"
"""Subject and job of the tables over the whole study."""
PAGES = "pages"
"""Subject of the run that writes the last of the pages."""
PATIENT_JOB = "patient"
WORDS_JOB = "words"
"""Job that recognizes what a patient says: it takes longer than much of the rest together, and comes after all patients'."""
_WORDS_OF = "words of "


def subject_of(job: str, patient: str) -> str:
    """Return the subject of a patient's run of a job; runs of their words have subjects of their own."""
    return f"{_WORDS_OF}{patient}" if job == WORDS_JOB else patient


LASTING_ERRORS = frozenset(
    {
        "AssertionError",
        "AttributeError",
        "DagsterAssetCheckFailedError",
        "ImportError",
        "IndexError",
        "InvalidTable",
        "KeyError",
        "ModuleNotFoundError",
        "NameError",
        "RecursionError",
        "SqlModelError",
        "TypeError",
        "UnicodeDecodeError",
        "ValueError",
        "WarehouseError",
        "ZeroDivisionError",
    }
)
"""Errors that the same input raises every time: a bug, or rows that fit no model. Everything else (memory, disk, locks,
a process that died) may be gone the next time."""


def can_heal(errors: Collection[str]) -> bool:
    """Return whether a run that failed with errors of these classes may succeed on the same input.

    One error that can go away is enough: what it stopped can change the rest. A run without any error in its log was
    killed, and may succeed.
    """
    return not errors or any(name not in LASTING_ERRORS for name in errors)


@dataclass(frozen=True)
class Attempt:
    """One finished run that was requested for a subject.

    Attributes
    ----------
    run_id : str
        The run.
    state : str
        The state that it was requested for.
    ended_at : float
        Seconds since 1970.
    can_heal : bool
        Whether trying the same again makes sense.
    """

    run_id: str
    state: str
    ended_at: float
    can_heal: bool = True


@dataclass(frozen=True)
class StudyState:
    """Everything that the decision depends on, at one moment.

    Attributes
    ----------
    enrolled : collection of str
        Patients of the study folder.
    stale : mapping
        Enrolled patients with something to do, to their state.
    unsettled : mapping
        Patients with videos that may still be copied in, to those videos' names.
    words : mapping
        Enrolled patients with words to recognize in sound that is stored, to their state.
    partitions : collection of str
        Patients that Dagster knows.
    in_flight : collection of str
        Subjects of runs that are queued or in progress, however they were requested.
    attempts : mapping
        Subject to its finished runs, newest first.
    study, marts : str, optional
        State of the study folder's problems and of the marts where they are out of date; None where current.
    marts_at : float, optional
        When the marts were last made, or work on the study began, in seconds since 1970; None before that.
    backfilled : collection of str
        Patients of a backfill in progress, which requests their runs.
    newest : collection of str
        Patients with the latest day of the study (`staleness.with_latest_day`), who are run first.
    """

    enrolled: Collection[str]
    stale: Mapping[str, str]
    unsettled: Mapping[str, Sequence[str]]
    partitions: Collection[str]
    in_flight: Collection[str] = frozenset()
    attempts: Mapping[str, Sequence[Attempt]] = field(default_factory=dict)
    study: str | None = None
    marts: str | None = None
    marts_at: float | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    backfilled: Collection[str] = frozenset()
    newest: Collection[str] = frozenset()


@dataclass(frozen=True)
class Request:
    """One run to request. `key` stays the same until a run for it exists, so requesting it twice makes one run."""

    job: str
    subject: str
    state: str
    key: str

    @property
    def partition(self) -> str | None:
        """The patient; None for runs about the whole study."""
        return self.subject.removeprefix(_WORDS_OF) if self.job in (PATIENT_JOB, WORDS_JOB) else None


@dataclass(frozen=True)
class Plan:
    """What to do now.

    Attributes
    ----------
    add_partitions : tuple of str
        Patients to make known to Dagster.
    requests : tuple of Request
        Runs to request.
    waiting : dict
        Subject to why its run is not requested now.
    given_up : dict
        Subject to why no run is requested until something changes.
    not_enrolled : tuple of str
        Patients that Dagster knows and the study folder does not; nothing of theirs is ever deleted here.
    """

    add_partitions: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()
    waiting: dict[str, str] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    not_enrolled: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return in a line or two what happens and what waits: ids and counts only."""
        parts = []
        if self.add_partitions:
            parts.append(f"new patients: {_some(self.add_partitions)}")
        if self.requests:
            parts.append(f"runs requested: {_some([r.subject for r in self.requests])}")
        parts += [f"{_some(who)}: {why}" for why, who in _by_reason(self.waiting).items()]
        parts += [f"{_some(who)}: {why}" for why, who in _by_reason(self.given_up).items()]
        if self.not_enrolled:
            parts.append(
                f"no longer in the study folder, nothing deleted: {_some(self.not_enrolled)}; "
                "a withdrawal is carried out on request only"
            )
        return "; ".join(parts) or "everything is up to date"


def plan(study: StudyState, now: float, settings: SensorSettings) -> Plan:
    """Return which partitions to add and which runs to request.

    Parameters
    ----------
    study : StudyState
        The study folder, the warehouse and Dagster's runs at one moment.
    now : float
        Seconds since 1970.
    settings : SensorSettings
        Limits on runs in flight and on retries.
    """
    waiting: dict[str, str] = {}
    given_up: dict[str, str] = {}
    requests: list[Request] = []

    def ask(job: str, subject: str, state: str) -> bool:
        attempts = study.attempts.get(subject, ())
        if subject in study.in_flight:
            waiting[subject] = "a run is in progress"
        elif reason := _why_given_up(attempts, state, settings):
            given_up[subject] = reason
        elif now < (due := _due(attempts, state, settings)):
            waiting[subject] = f"will be tried again in {max(1, round((due - now) / 60))} min"
        else:
            # the newest run makes the key new after every run, and keeps it the same as long as there is none
            after = attempts[0].run_id[:8] if attempts else "first"
            requests.append(Request(job, subject, state, f"{subject}:{state}:{after}"))
            return True
        return False

    if study.study is not None:
        ask(STUDY, STUDY, study.study)
    enrolled, known = set(study.enrolled), set(study.partitions)
    # training and reports are in flight too, under subjects of their own, and do not delay patients
    in_progress = set(study.in_flight) & (enrolled | known)
    listening = {patient for patient in enrolled | known if subject_of(WORDS_JOB, patient) in study.in_flight}
    room = settings.batch - len(in_progress) - len(listening)
    # those tried least come first, so that a patient who fails does not delay the others
    for patient in sorted(
        study.stale,
        key=lambda p: (len(_tries(study.attempts.get(p, ()), study.stale[p])), p not in study.newest, p),
    ):
        if patient not in enrolled:
            continue
        if study.unsettled.get(patient):
            waiting[patient] = "a video may still be being copied"
        elif patient in study.backfilled:
            waiting[patient] = "a backfill is in progress"
        elif patient in listening:
            waiting[patient] = "a run is in progress"
        elif room <= 0:
            waiting[patient] = "enough runs are queued"
        elif ask(PATIENT_JOB, patient, study.stale[patient]):
            room -= 1
    extracting = bool(in_progress) or any(r.job == PATIENT_JOB for r in requests)
    for patient in sorted(enrolled & study.words.keys()):
        subject = subject_of(WORDS_JOB, patient)
        if extracting:
            waiting[subject] = "runs of patients come first"
        elif patient in study.backfilled:
            waiting[subject] = "a backfill is in progress"
        elif room <= 0:
            waiting[subject] = "enough runs are queued"
        elif ask(WORDS_JOB, subject, study.words[patient]):
            room -= 1
    if study.marts is not None:
        # words that are only requested now are not waited for: pages show the rest before them, and then again with them
        busy = extracting or bool(listening)
        overdue = study.marts_at is not None and now - study.marts_at >= settings.marts_wait_s
        if busy and not overdue:
            waiting[MARTS] = "runs of patients are in progress"
        else:
            ask(MARTS, MARTS, study.marts)
    return Plan(
        add_partitions=tuple(sorted(enrolled - known)),
        requests=tuple(requests),
        waiting=waiting,
        given_up=given_up,
        not_enrolled=tuple(sorted(known - enrolled)),
    )


def _tries(attempts: Sequence[Attempt], state: str) -> list[Attempt]:
    """Return the latest consecutive runs that were requested for this state and did not change it."""
    return list(takewhile(lambda a: a.state == state, attempts))


def _why_given_up(attempts: Sequence[Attempt], state: str, settings: SensorSettings) -> str:
    tries = _tries(attempts, state)
    if tries and not tries[0].can_heal:
        return "failed in a way that trying again does not fix; see its last run"
    if len(tries) >= settings.attempts:
        return f"failed {len(tries)} times; see its last run"
    return ""


def _due(attempts: Sequence[Attempt], state: str, settings: SensorSettings) -> float:
    tries = _tries(attempts, state)
    return tries[0].ended_at + settings.retry_s * 2 ** (len(tries) - 1) if tries else 0.0


def _by_reason(subjects: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for subject, reason in subjects.items():
        reasons.setdefault(reason, []).append(subject)
    return reasons


def _some(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
