"""The catalogue of checks: what each looks at, how severe a failure is, what to do about it, where the rule comes from.

Checks, `iss quality`, alerts and pages all take their wording from here, and `iss docs` writes the tables of
``docs/checks.md``. The wording about a video's quality is in ``protocol.flags``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Final, Literal

from iss_assets.protocol.consent import NO_CONTACT
from iss_assets.protocol.flags import CAUSES

Severity = Literal["WARN", "ERROR"]

WHOLE_STUDY: Final = "*"
"""Takes the place of the patient id in results about the whole study."""


@dataclass(frozen=True)
class CheckInfo:
    """One check.

    Attributes
    ----------
    name : str
        Stable name in snake_case, unique on its asset.
    asset : str
        The asset (also the name of the table) that shows it.
    title : str
        What a failure means, in a few words.
    severity : str
        ``ERROR`` where nothing can be used until it is fixed, else ``WARN``. A check may raise a warning to an
        error when everything is affected.
    hint : str
        What the coordinator does about it, one sentence; ``{patient}`` is replaced by the patient id.
    source : str
        Where the rule or its threshold comes from.
    blocking : bool
        Whether a failure stops everything downstream in the same run.
    flags : tuple of str
        The flags of ``video_quality`` that it reports.
    hint_if_lost : str
        Replaces the hint where none of the patient's data is left for training; `hint` if empty.
    reminder : str
        For checks on participation: nothing is lost, and pages list all patients together. Says how many there are,
        with the names of the check's numbers in braces; empty for every other check.
    asks_patient : bool
        Whether the hint has somebody talk to the patient; it is replaced for patients who do not want that.
    """

    name: str
    asset: str
    title: str
    severity: Severity
    hint: str
    source: str
    blocking: bool = False
    flags: tuple[str, ...] = ()
    hint_if_lost: str = ""
    reminder: str = ""
    asks_patient: bool = False

    def advise(self, patient: str, *, lost: bool = False, contact: bool = True) -> str:
        """Return the hint for a patient, or for `WHOLE_STUDY`.

        Parameters
        ----------
        patient : str
            Patient id.
        lost : bool
            Whether none of the patient's data is left for training.
        contact : bool
            Whether the study team may talk to the patient.
        """
        if not contact and self.asks_patient:
            return NO_CONTACT.format(patient=patient)
        lost = lost and contact
        text = (lost and self.hint_if_lost) or self.hint
        if patient == WHOLE_STUDY:
            return text.replace("patient {patient}", "the whole study")
        return text.format(patient=patient)

    def extent(self, numbers: Mapping[str, float]) -> str:
        """Return how much of a reminder there is, from a check's numbers; empty if a number is missing."""
        names = [name for _, name, _, _ in Formatter().parse(self.reminder) if name]
        return self.reminder.format_map(numbers) if numbers.keys() >= {*names} else ""

    def advise_all(self, no_contact: Collection[str] = ()) -> str:
        """Return the hint of a reminder for all patients in a list, some of whom may not want to be contacted."""
        text = self.hint.replace("patient {patient}", "these patients")
        if not self.asks_patient or not no_contact:
            return text
        return f"{text} {NO_CONTACT.format(patient=', '.join(sorted(no_contact)))}"


_TABLE_3: Final = "protocol, the paper's Table 3"
_SIX: Final = "the paper, section 6, Limitations"

_SCORES: Final = (
    CheckInfo(
        "missing_scores",
        "bpi_scores",
        "Scores are missing",
        "WARN",
        "Ask patient {patient} to answer all nine questions with every video, and whether any of them is hard to answer.",
        f"protocol, the paper's section 3.2.1; {_SIX}, issue 6",
        hint_if_lost="Find out whether the answers of patient {patient} reached the study; if not, ask for them.",
        asks_patient=True,
    ),
    CheckInfo(
        "rejected_answers",
        "bpi_scores",
        "Rows or answers in surveys.csv could not be used",
        "WARN",
        "Correct the rows of patient {patient} in surveys.csv; the table rejected_rows gives line, column and reason.",
        "study folder, docs/study_folder.md",
    ),
    CheckInfo(
        "same_answers_for_weeks",
        "bpi_scores",
        "The same answers for weeks",
        "WARN",
        "Ask patient {patient} to think about each answer every time.",
        "settings, checks.same_answers_days",
        reminder="{affected} check-ins",
        asks_patient=True,
    ),
    CheckInfo(
        "chronic_pain_flips",
        "bpi_scores",
        "Question 2 (pain for more than three months) changed from yes to no",
        "WARN",
        "Explain question 2 to patient {patient} again: it asks about pain that has lasted more than three months.",
        "protocol, the paper's section 3.2.1",
        reminder="{affected} times",
        asks_patient=True,
    ),
    CheckInfo(
        "more_than_one_a_day",
        "bpi_scores",
        "More than one check-in on the same day",
        "WARN",
        "Tell patient {patient} that one check-in a day is enough, and check whether one was sent twice.",
        _TABLE_3,
        reminder="{days} days",
        asks_patient=True,
    ),
    CheckInfo(
        "fewer_than_three_a_week",
        "bpi_scores",
        "Fewer than three check-ins a week",
        "WARN",
        "Remind patient {patient} of three check-ins a week, and ask what keeps them from it.",
        _TABLE_3,
        reminder="{short weeks} of {weeks} weeks",
        asks_patient=True,
    ),
    CheckInfo(
        "no_check_in",
        "bpi_scores",
        "No check-in for days",
        "WARN",
        "Call patient {patient} and ask whether they want to go on, and what keeps them from checking in.",
        "settings, checks.no_check_in_days",
        reminder="{days} days",
        asks_patient=True,
    ),
    CheckInfo(
        "unknown_time",
        "bpi_scores",
        "The local time of check-ins is unknown",
        "WARN",
        "Add the offset from UTC to the times of patient {patient} in surveys.csv, or utc_offset in enrollment.csv, or "
        "set ISS_READING__UTC_OFFSET for the whole study.",
        "study folder, docs/study_folder.md",
        reminder="{affected} of {checked} check-ins",
    ),
    CheckInfo(
        "survey_without_video",
        "bpi_scores",
        "Surveys without a video",
        "WARN",
        "Check whether the videos of patient {patient} were uploaded, and ask for those that are missing.",
        "protocol, the paper's section 3.2",
        asks_patient=True,
    ),
    CheckInfo(
        "video_without_survey",
        "bpi_scores",
        "Videos without a survey",
        "WARN",
        "Check whether the surveys of patient {patient} are in the export under the same submission id.",
        "protocol, the paper's section 3.2",
    ),
)

_ENROLLMENT: Final = (
    CheckInfo(
        "cohort_contradiction",
        "patients",
        "Cohort, sex, skin type and pain target contradict one another",
        "ERROR",
        "Correct cohort, sex, skin type or pain target of patient {patient} in enrollment.csv.",
        "the paper's Table 2",
    ),
)

WITHDRAWAL: Final = "withdrawal_requested"
"""Name of the check that reports who asked to withdraw."""

_CONSENT: Final = (
    CheckInfo(
        WITHDRAWAL,
        "consent",
        "The patient asked to withdraw",
        "ERROR",
        "Carry out what patient {patient} asked for with: iss withdraw {patient} (with --scope sharing if only sharing was "
        "withdrawn).",
        "consent.csv, docs/study_folder.md; GDPR, articles 7 and 17",
    ),
)

_QUALITY: Final = tuple(
    CheckInfo(
        cause.check,
        "video_quality",
        cause.title,
        "WARN",
        cause.advice,
        cause.source,
        flags=tuple(cause.flags),
        hint_if_lost=f"{cause.advice} No video can be used so far: call them and record the next one together.",
        asks_patient=cause.asks_patient,
    )
    for cause in CAUSES
)

_WORDS: Final = (
    CheckInfo(
        "no_words",
        "transcripts",
        "No word was recognized",
        "WARN",
        "Listen to the videos of patient {patient}: does somebody speak, and could a stranger understand it?",
        "the paper, section 6, Future Work: text from the audio",
        reminder="{affected} videos",
    ),
    CheckInfo(
        "speech_without_words",
        "transcripts",
        "Somebody speaks, and no word was recognized for long",
        "WARN",
        "Listen to the videos of patient {patient}: the words of a part of them are missing, and figures about words are about the "
        "rest.",
        "settings, checks.wordless_share and checks.wordless_s",
        reminder="{affected} videos",
    ),
    CheckInfo(
        "other_language",
        "transcripts",
        "A language that is not the study's is spoken",
        "WARN",
        "Listen to the videos of patient {patient}: another language is spoken, or it was misheard; figures about words are for "
        "English.",
        "settings, checks.languages",
        reminder="{affected} videos",
    ),
    CheckInfo(
        "words_out_of_time",
        "transcript_words",
        "Words are missing, out of order, or said after the end of the video",
        "WARN",
        "Tell the engineer: the words of patient {patient} were changed by hand, or the recognition put them at the wrong times.",
        "the text and the length of the same video",
    ),
    CheckInfo(
        "spans_outside_text",
        "transcript_spans",
        "What may name somebody is marked at words that are not there",
        "WARN",
        "Tell the engineer: the marks of patient {patient} belong to another text. Until then, read the whole text before anybody "
        "sees it.",
        "the words of the same video",
    ),
    CheckInfo(
        "text_features_of_other_words",
        "text_features",
        "Figures about words are not about the words of the video",
        "WARN",
        "Tell the engineer: the figures about what patient {patient} said were made from another text, or are missing.",
        "the text of the same video",
    ),
)

_VOICE: Final = (
    CheckInfo(
        "voice_not_measured",
        "voice_features",
        "Someone speaks, but no voice could be measured",
        "WARN",
        "Listen to the videos of patient {patient}: a whisper has no pitch; music or a second voice can hide it.",
        "settings, voice",
    ),
    CheckInfo(
        "implausible_pitch",
        "voice_features",
        "The pitch is one that nobody speaks at",
        "WARN",
        "Listen to the videos of patient {patient}: a machine may be louder than the voice, or the sound may run at the "
        "wrong speed.",
        "settings, checks.pitch_lowest_hz, checks.pitch_highest_hz",
    ),
    CheckInfo(
        "pitch_unlike_other_videos",
        "voice_features",
        "The voice is much higher or lower than in the patient's other videos",
        "WARN",
        "Listen to the videos of patient {patient}: someone else may be speaking, or the sound may run at the wrong speed.",
        "settings, checks.pitch_change_semitones",
    ),
)

_THERMAL: Final = (
    CheckInfo(
        "thermal_unreadable",
        "thermal",
        "Thermal pictures give no temperatures",
        "WARN",
        "Copy the thermal pictures of patient {patient} from the camera again, as it saved them; the table thermal says what "
        "is wrong with each.",
        "study folder, docs/study_folder.md",
    ),
    CheckInfo(
        "skin_temperature",
        "thermal",
        "The forehead in thermal pictures has no plausible temperature",
        "WARN",
        "Look at the thermal pictures of patient {patient}: the whole face from the front, uncovered, after a few minutes "
        "indoors, and the camera's distance and room temperature set to the real ones.",
        "settings, checks.forehead_coldest_c and forehead_warmest_c",
    ),
)

_BEHAVIOR: Final = (
    CheckInfo(
        "behavior_without_mesh",
        "face_behavior",
        "Behavior was measured in other pictures than those with a face mesh",
        "WARN",
        "Tell the engineer: the behavior of patient {patient} was measured in other face meshes than the stored ones.",
        "the landmarks of the same video",
    ),
    CheckInfo(
        "head_turned_away",
        "face_behavior_summary",
        "The head is turned away for most of the video",
        "WARN",
        "Ask patient {patient} to look at the phone while speaking, and to rest it in front of them, at eye level.",
        "settings, checks.away_share and behavior.facing_degrees",
        asks_patient=True,
    ),
)

_PROMPT: Final = (
    CheckInfo(
        "prompt_not_read",
        "prompt_readings",
        "The text of Question 10 was not read aloud",
        "WARN",
        "Watch the readings of patient {patient}: if something else was said, or nothing, explain Question 10 to them again.",
        "protocol, the paper's section 3.2.2; settings, prompt.read_at_most",
        asks_patient=True,
    ),
    CheckInfo(
        "prompt_cut_short",
        "prompt_readings",
        "The text of Question 10 was not read from beginning to end",
        "WARN",
        "Ask patient {patient} to start the recording before they begin to read, and to stop it after the last word.",
        "protocol, the paper's section 3.2.2; settings, prompt.whole_share",
        asks_patient=True,
    ),
    CheckInfo(
        "prompt_not_assessed",
        "prompt_readings",
        "Whether the text of Question 10 was read, and to its end, could not be told",
        "WARN",
        "Listen to the readings of patient {patient}: was a text read, and could a stranger understand it? The sound, the language "
        "or much of the speech could not be recognized.",
        "the recognized words; settings, checks.wordless_share and checks.wordless_s",
        reminder="{affected} readings",
    ),
    CheckInfo(
        "prompt_unknown",
        "prompt_readings",
        "What surveys.csv says about the text of Question 10 does not fit",
        "WARN",
        "Correct prompt_id of patient {patient} in surveys.csv, or add the text to prompts.csv.",
        "study folder, docs/study_folder.md",
    ),
)

_STUDY: Final = (
    CheckInfo(
        "study_rejected",
        "study_expectations",
        "Rows or files of the study folder are not used",
        "WARN",
        "Correct what the table rejected_rows names by file, line and reason. Ids that a spreadsheet changed (0007 to 7) "
        "cost all rows of a patient: begin with them.",
        "the study folder's contract, docs/study_folder.md",
    ),
    CheckInfo(
        "study_cohorts",
        "study_expectations",
        "Cohorts are empty or hold more than the goal of seven",
        "WARN",
        "Steer enrollment towards the cohorts that are behind; the Data Docs list them.",
        "the paper's Table 2",
    ),
    CheckInfo(
        "study_classes",
        "study_expectations",
        "Pain levels are out of balance",
        "WARN",
        "Enroll patients of the levels that are behind, and read accuracies by level until then.",
        "the paper's Table 4 and section 6",
    ),
    CheckInfo(
        "study_scores",
        "study_expectations",
        "The nine answers have an unusual distribution across the study",
        "WARN",
        "Review the questions that the Data Docs name: the export or the question itself may be at fault.",
        "settings, checks",
    ),
    CheckInfo(
        "study_pain_by_level",
        "study_expectations",
        "Pain right now does not rise with the pain level",
        "WARN",
        "Have the pain targets of the levels that the Data Docs name compared with the enrollment forms.",
        "the paper's sections 3.1 and 3.2.1: both are the patient's own rating from 0 to 10",
    ),
    CheckInfo(
        "study_drift",
        "study_expectations",
        "Quality changed from one month to the next",
        "WARN",
        "Look for what changed between these months: the app, the instructions, the season's light.",
        "settings, checks.drift_change",
    ),
    CheckInfo(
        "study_groups",
        "study_expectations",
        "Flags are raised more often in one sex, skin type or age group than in the other",
        "WARN",
        "Have the flag's measure reviewed for this group before its videos are left out of training.",
        "settings, checks.group_gap; the paper's Ethics section",
    ),
    CheckInfo(
        "study_faces",
        "study_expectations",
        "One face is seen under two patients",
        "WARN",
        "Watch the named patients' videos side by side: somebody may be enrolled twice, a video may be filed under the wrong "
        "patient, or two people look alike.",
        "settings, checks.same_face_distance",
    ),
    CheckInfo(
        "study_faces_not_compared",
        "study_expectations",
        "Faces are not compared: nobody would notice another person's face",
        "WARN",
        "Install the network that compares faces as `iss doctor` says, then iss run; or switch comparing off with "
        "ISS_IDENTITY__ENABLED=false.",
        "docs/quality.md, another person's face",
    ),
)

DAEMON_SILENT: Final = CheckInfo(
    "daemon_silent",
    "daemon",
    "The daemon is silent: nothing new is picked up",
    "ERROR",
    "Start iss serve again; if this comes back, tell the engineer, who finds the reason in serve.log in the home.",
    "settings, server.daemon_silent_s",
)
"""Looked at by `iss serve`, not by a run: the daemon, which makes the runs, cannot report its own death."""

QUEUE_NOT_SERVED: Final = CheckInfo(
    "queue_not_served",
    "workers",
    "Runs wait, and no worker takes them",
    "ERROR",
    "Tell the engineer: iss doctor says whether the broker answers and which queue no worker serves; training and embeddings "
    "need one of the queue gpu.",
    "settings, cluster.unserved_s",
)
"""Looked at by the sensor of alerts where there is a cluster: a run that waits cannot fail."""

WAREHOUSE_AWAY: Final = CheckInfo(
    "warehouse_away",
    "warehouse",
    "The warehouse cannot be used: nothing new is stored",
    "ERROR",
    "Run iss doctor where iss serve runs: it says whether the disk is full, a folder is missing, or the database does not answer. "
    "New submissions wait and are picked up afterwards.",
    "writing and reading on trial",
)
"""Looked at by `iss serve`, which sends this alert itself: it cannot be stored."""

WITHOUT_RUNS: Final = (DAEMON_SILENT, QUEUE_NOT_SERVED, WAREHOUSE_AWAY)
"""Checks of the program itself: only the table ``alerts`` has their outcome."""

CATALOGUE: Final = (
    *_ENROLLMENT,
    *_CONSENT,
    *_SCORES,
    *_QUALITY,
    *_BEHAVIOR,
    *_VOICE,
    *_WORDS,
    *_THERMAL,
    *_PROMPT,
    *_STUDY,
    *WITHOUT_RUNS,
)
"""Every check but the schema checks, in the order in which the data flow."""

BY_KEY: Final = {(check.asset, check.name): check for check in CATALOGUE}

BLOCKING_TABLES: Final = ("patients", "bpi_scores", "videos", "frames", "faces", "landmarks", "audio")
"""Tables whose faults make everything downstream meaningless."""

WITHOUT_CONTACT: Final = "consent to contact withdrawn"
"""The number, 1, that the failed check of a patient has who does not want to be contacted, if its hint would have
somebody do that."""

BROKEN_HINT: Final = (
    "Tell the engineer: this check could not run, so nothing is known; the run's log says where it failed."
)
"""What to do about a check that could not run, whatever it looks for."""

SCHEMA: Final = "schema"
"""Name of the check that every table has on its columns, types and keys."""


def schema_check(table: str) -> CheckInfo:
    """Return a table's schema check."""
    return CheckInfo(
        SCHEMA,
        table,
        "Rows, columns or keys do not fit the table's model",
        "ERROR",
        "Tell the engineer: the rows of patient {patient} in this table were written by another version, or changed by hand.",
        "the table's model, docs/data_dictionary.md",
        blocking=table in BLOCKING_TABLES,
    )


def find(asset: str, name: str) -> CheckInfo:
    """Return the check with this name on this asset.

    Raises
    ------
    KeyError
        If there is no such check.

    Examples
    --------
    >>> find("video_quality", "dark_or_grainy").advise("0012")
    'Ask patient 0012 to record in a brighter room, with the light in front of them.'
    """
    return schema_check(asset) if name == SCHEMA else BY_KEY[(asset, name)]
