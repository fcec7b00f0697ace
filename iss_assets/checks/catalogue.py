"""Every check by name: what it is on, how bad it is, what to do about it, and where the rule comes from.

Belongs here: words about checks, once. The checks themselves, `iss quality`, alerts and pages all read them here.
Does not belong here: looking at data (``scores``, ``videos``, ``faces``, ``quality``, ``schema``), Dagster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["WARN", "ERROR"]

WHOLE_STUDY: Final = "*"
"""Stands for the patient id in results about the whole study."""


@dataclass(frozen=True)
class CheckInfo:
    """One check.

    Attributes
    ----------
    name : str
        Stable, snake_case; unique on its asset.
    asset : str
        The asset, which is also the table, that it is shown on.
    title : str
        What a failure means, in a few words.
    severity : str
        ``ERROR`` where nothing can be used before it is mended, else ``WARN``. A check may raise a warning to an
        error when everything is affected.
    hint : str
        What the coordinator does about it, one sentence; ``{patient}`` stands for the patient id.
    source : str
        Where the rule or its threshold comes from.
    blocking : bool
        Whether what follows is not made in the same run after an error.
    flags : tuple of str
        The flags of ``video_quality`` that it reports.
    """

    name: str
    asset: str
    title: str
    severity: Severity
    hint: str
    source: str
    blocking: bool = False
    flags: tuple[str, ...] = ()

    def advise(self, patient: str) -> str:
        """Give the hint for a patient."""
        return self.hint.format(patient=patient)


_TABLE_3: Final = "protocol, the paper's Table 3"
_SIX: Final = "the paper, section 6, Limitations"

_SCORES: Final = (
    CheckInfo(
        "missing_items",
        "bpi_scores",
        "Questionnaires with some of the nine answers missing",
        "WARN",
        "Ask patient {patient} to answer all nine questions, and whether one of them is hard to answer.",
        "protocol, the paper's section 3.2.1",
    ),
    CheckInfo(
        "missing_questionnaires",
        "bpi_scores",
        "Questionnaires without a single answer",
        "WARN",
        "Ask patient {patient} whether the questionnaire opens in the app, and to answer it with every video.",
        f"{_SIX}, trouble 6",
    ),
    CheckInfo(
        "no_scores",
        "bpi_scores",
        "No answer at all from this patient (like 0015 in the paper)",
        "ERROR",
        "Look whether the answers of patient {patient} reached the study, and if not, ask for them.",
        f"{_SIX}, trouble 6",
    ),
    CheckInfo(
        "rejected_answers",
        "bpi_scores",
        "Cells or rows of the survey file that could not be used",
        "WARN",
        "Correct the rows of patient {patient} in surveys.csv; the table rejected_rows gives line, column and reason.",
        "study folder, docs/study_folder.md",
    ),
    CheckInfo(
        "same_answers_for_weeks",
        "bpi_scores",
        "The same answers for weeks",
        "WARN",
        "Ask patient {patient} whether the answers are still thought about each time.",
        "settings, checks.same_answers_days",
    ),
    CheckInfo(
        "chronic_pain_flips",
        "bpi_scores",
        "Pain of more than three months was answered with yes and later with no",
        "WARN",
        "Explain question 2 to patient {patient} again: it asks for pain that has lasted more than three months.",
        "protocol, the paper's section 3.2.1",
    ),
    CheckInfo(
        "more_than_one_a_day",
        "bpi_scores",
        "More than one submission on a day",
        "WARN",
        "Tell patient {patient} that one check-in a day is enough, and look whether one was sent twice.",
        _TABLE_3,
    ),
    CheckInfo(
        "fewer_than_three_a_week",
        "bpi_scores",
        "Weeks with fewer than three check-ins",
        "WARN",
        "Remind patient {patient} of three check-ins a week, and ask what keeps them from it.",
        _TABLE_3,
    ),
    CheckInfo(
        "survey_without_video",
        "bpi_scores",
        "Surveys without a video",
        "WARN",
        "Look whether the videos of patient {patient} were uploaded, and ask for those that are missing.",
        "protocol, the paper's section 3.2",
    ),
    CheckInfo(
        "video_without_survey",
        "bpi_scores",
        "Videos without a survey",
        "WARN",
        "Look whether the surveys of patient {patient} are in the export under the same submission id.",
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

_VIDEOS: Final = (
    CheckInfo(
        "unreadable_videos",
        "videos",
        "Videos that cannot be read",
        "WARN",
        "Upload the named videos of patient {patient} again, and if they stay broken, ask for new ones.",
        "study folder, docs/study_folder.md",
    ),
    CheckInfo(
        "no_usable_video",
        "videos",
        "Not one video of this patient can be read (like 0009 in the paper)",
        "ERROR",
        "Call patient {patient}: nothing that was sent can be played; record the next one together.",
        f"{_SIX}, trouble 6, and Table 2",
    ),
    CheckInfo(
        "duration",
        "videos",
        "Videos shorter than 15 seconds or longer than three minutes",
        "WARN",
        "Ask patient {patient} to speak for at least fifteen seconds and at most three minutes.",
        f"{_TABLE_3}: Q11 takes 15 s to 3 min",
    ),
    CheckInfo(
        "no_sound",
        "videos",
        "Videos without a sound track",
        "WARN",
        "Ask patient {patient} to allow the app the microphone.",
        "protocol, the paper's section 3.2",
    ),
    CheckInfo(
        "duplicate_files",
        "videos",
        "The same file under two submissions or two patients",
        "WARN",
        "Find out which submission of patient {patient} the file belongs to, and delete the other.",
        "identical SHA-256",
    ),
    CheckInfo(
        "frozen_picture",
        "frames",
        "The picture stands still",
        "WARN",
        "Ask patient {patient} to close other apps before recording, and to record the frozen ones again.",
        "settings, quality.still_motion, quality.still_seconds and quality.affected_share",
    ),
    CheckInfo(
        "frame_count",
        "frames",
        "Fewer or more pictures than the duration asks for",
        "WARN",
        "Upload the named videos of patient {patient} again; part of each is missing.",
        "ten frames a second, the paper's section 3.3.1",
    ),
)

_FACES: Final = (
    CheckInfo(
        "face_detection_rate",
        "faces",
        "The face is not found in too many pictures",
        "WARN",
        "Ask patient {patient} to hold the camera at eye level with the whole face in the picture.",
        "173,011 faces in 189,999 frames, the paper's section 3.3.1",
    ),
    CheckInfo(
        "landmark_failure_rate",
        "landmarks",
        "No landmarks on too many faces",
        "WARN",
        "Ask patient {patient} to face the camera in even light, with nothing before the face.",
        "2.86 % of the faces in the paper, section 3.3.1",
    ),
    CheckInfo(
        "implausible_mesh",
        "landmarks",
        "Landmarks that do not form a face",
        "WARN",
        "Look at the named videos of patient {patient}: the face may be covered or cut off.",
        "settings, checks.mesh_fault_share",
    ),
    CheckInfo(
        "jumping_mesh",
        "landmarks",
        "The face jumps from one moment to the next",
        "WARN",
        "Look at the named videos of patient {patient}: a second face or a picture on the wall may be taken for theirs.",
        "settings, checks.jump_eye_distances",
    ),
    CheckInfo(
        "mirrored_or_upside_down",
        "landmarks",
        "Faces that are mirrored, lie on the side or stand on the head",
        "WARN",
        "Ask patient {patient} to hold the phone upright, and look whether the app saved the rotation.",
        "settings, checks.mesh_fault_share",
    ),
)


def _flagged(
    name: str, title: str, flags: tuple[str, ...], hint: str, source: str = "settings, quality"
) -> CheckInfo:
    return CheckInfo(name, "video_quality", title, "WARN", hint, source, flags=flags)


_QUALITY: Final = (
    _flagged(
        "signage",
        "Signs or lettering in the background",
        ("signage",),
        "Ask patient {patient} to sit in front of a plain wall, without signs or lettering.",
        f"{_SIX}, trouble 1",
    ),
    _flagged(
        "face_mask",
        "A mask or a hand covers the face",
        ("mask",),
        "Ask patient {patient} to record without a mask, where that is safe, with nothing before the face.",
        f"{_SIX}, trouble 2",
    ),
    _flagged(
        "glare",
        "Glare or over-exposure",
        ("glare",),
        "Ask patient {patient} to turn away from the sun or lamp, and to keep windows out of the picture.",
        f"{_SIX}, trouble 3",
    ),
    _flagged(
        "dark_or_grainy",
        "Dark or grainy picture",
        ("dark", "grainy"),
        "Ask patient {patient} to record in a brighter room, with the light in front of them.",
        f"{_SIX}, trouble 4",
    ),
    _flagged(
        "quiet_or_muffled",
        "Quiet or muffled voice",
        ("quiet", "muffled"),
        "Ask patient {patient} to speak up, closer to the phone, with nothing over the microphone.",
        f"{_SIX}, trouble 5",
    ),
    _flagged(
        "missing_data",
        "Nothing can be seen or nobody can be heard",
        ("unreadable", "no_sound", "silent", "no_speech", "sound_cut", "landmarks_missing"),
        "Ask patient {patient} to send the named videos again, with picture and sound.",
        f"{_SIX}, trouble 6",
    ),
    _flagged(
        "blurred_picture",
        "Blurred picture",
        ("blurred",),
        "Ask patient {patient} to clean the lens and to put the phone on something firm.",
    ),
    _flagged(
        "disturbed_sound",
        "Noise or clipping in the sound",
        ("noisy_sound", "clipped"),
        "Ask patient {patient} to record in a quiet room, an arm's length from the phone.",
    ),
    _flagged(
        "other_person",
        "A different person than in the patient's other videos",
        ("other_person",),
        "Find out who is seen in the named videos of patient {patient}, and move or delete those of somebody else.",
    ),
    _flagged(
        "face_too_small",
        "The face is too small",
        ("face_small",),
        "Ask patient {patient} to sit closer to the camera, at about an arm's length.",
    ),
    _flagged(
        "several_faces",
        "More than one face in the picture",
        ("several_faces",),
        "Ask patient {patient} to record alone, without people or portraits in the background.",
    ),
    _flagged(
        "face_leaves",
        "The face leaves the picture, or is never in it",
        ("face_missing", "face_leaves"),
        "Ask patient {patient} to put the phone on something firm and to look into it until the end.",
    ),
    _flagged(
        "doubtful_landmarks",
        "Landmarks jump or do not form a face",
        ("landmarks_implausible",),
        "Look at the named videos of patient {patient} for what covers the face, and ask for light from the front.",
    ),
    _flagged(
        "odd_recording",
        "Length, stillness, rotation or a copy make the recording odd",
        ("too_short", "too_long", "wrong_frame_count", "frozen", "rotated", "duplicate"),
        "Look at the named videos of patient {patient}; the checks on videos and frames say more.",
    ),
    CheckInfo(
        "nothing_usable",
        "video_quality",
        "Not one video of this patient is usable (like 0009 in the paper)",
        "ERROR",
        "Call patient {patient} and record the next video together; training leaves them out until then.",
        f"{_SIX}, trouble 6, and Table 2",
    ),
)

_STUDY: Final = (
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
        "The nine answers are distributed oddly over the study",
        "WARN",
        "Look at the questions that the Data Docs name: the export or the question itself may be at fault.",
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
        "Flags are raised more often in one sex or skin type than in the other",
        "WARN",
        "Have the flag's measure looked at for this group before its videos are left out of training.",
        "settings, checks.group_gap; the paper's Ethics section",
    ),
)

CATALOGUE: Final = (*_ENROLLMENT, *_SCORES, *_VIDEOS, *_FACES, *_QUALITY, *_STUDY)
"""Every check but the schema checks, in the order in which the data flow."""

BY_KEY: Final = {(check.asset, check.name): check for check in CATALOGUE}

BLOCKING_TABLES: Final = ("patients", "bpi_scores", "videos", "frames", "faces", "landmarks", "audio")
"""Tables whose faults make everything after them meaningless."""

BROKEN_HINT: Final = (
    "Tell the engineer: this check could not be made, so nothing is known; the run's log says where."
)
"""What to do about a check that broke, whatever it looks for."""

SCHEMA: Final = "schema"
"""Name of the check that each table has on its shape."""


def schema_check(table: str) -> CheckInfo:
    """Give the schema check of a table."""
    return CheckInfo(
        SCHEMA,
        table,
        "Rows, columns or keys do not fit the table's model",
        "ERROR",
        "Tell the engineer: the rows of patient {patient} in this table were not made by this version, or changed by hand.",
        "the table's model, docs/data_dictionary.md",
        blocking=table in BLOCKING_TABLES,
    )


def find(asset: str, name: str) -> CheckInfo:
    """Give a check by the asset that it is on and its name.

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
