"""What can be wrong with a video: every flag, the cause that it belongs to, and what a coordinator does about it.

This is the wording that the command line, checks, alerts and pages show, and which flag explains which other. Whether a
video has a flag is decided in ``media.quality``.

A flag is one measured fact about one video. A cause is what a coordinator acts on: it has one or more flags, one
check, one alert, one piece of advice. A dark video is often grainy and shows no face; that is one cause, not three.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Cause:
    """Something that a coordinator can act on.

    Attributes
    ----------
    check : str
        The one check that reports it.
    title : str
        What is wrong, in a few words.
    flags : mapping of str to str
        Its flags, each with what it says about one video.
    advice : str
        What to do, in one sentence; ``{patient}`` is replaced by the patient id.
    source : str
        Where the rule comes from.
    asks_patient : bool
        Whether the advice has somebody talk to the patient.
    """

    check: str
    title: str
    flags: Mapping[str, str]
    advice: str
    source: str = "settings, quality"
    asks_patient: bool = True


_SIX: Final = "the paper, section 6, Limitations"

CAUSES: Final = (
    Cause(
        "unreadable_videos",
        "The video cannot be read",
        {"unreadable": "nothing can be decoded"},
        "Upload the videos of patient {patient} again; if they still cannot be read, ask for new ones.",
        f"{_SIX}, issue 6",
    ),
    Cause(
        "duplicate_files",
        "The same file was submitted more than once",
        {"duplicate": "same file as another submission"},
        "Find out which check-in of patient {patient} each file belongs to, and delete the copies.",
        "identical SHA-256",
        asks_patient=False,
    ),
    Cause(
        "duration",
        "The video is too short or too long",
        {"too_short": "too short", "too_long": "too long"},
        "Ask patient {patient} to speak for at least 15 seconds and at most 3 minutes.",
        "protocol, the paper's Table 3: Q11 takes 15 s to 3 min",
    ),
    Cause(
        "frame_count",
        "Part of the picture is missing",
        {"wrong_frame_count": "pictures missing"},
        "Upload the videos of patient {patient} again; if they are still incomplete, ask for new ones.",
        "ten frames per second, the paper's section 3.3.1",
    ),
    Cause(
        "frozen_picture",
        "The picture freezes",
        {"frozen": "picture frozen"},
        "Ask patient {patient} to close other apps before recording, and to record again.",
    ),
    Cause(
        "face_missing",
        "The face is missing, cut off or too small",
        {
            "face_missing": "no face",
            "face_leaves": "face cut off by the edge",
            "face_small": "face too small",
        },
        "Ask patient {patient} to rest the phone on something firm, at arm's length, with the whole face in the picture.",
    ),
    Cause(
        "several_faces",
        "More than one face in the picture",
        {"several_faces": "several faces"},
        "Ask patient {patient} to record alone, with no people or portraits in the background.",
    ),
    Cause(
        "other_person",
        "The face seems to be another person's",
        {"other_person": "another person"},
        "Watch the videos of patient {patient}; move or delete those that show someone else.",
        asks_patient=False,
    ),
    Cause(
        "mirrored_or_upside_down",
        "The picture is upside down, sideways or mirrored",
        {"rotated": "not upright"},
        "Ask patient {patient} to hold the phone upright, and check that the app saves the rotation.",
    ),
    Cause(
        "failed_landmarks",
        "Landmark detection failed",
        {
            "landmarks_missing": "no landmarks on many faces",
            "landmarks_implausible": "landmarks cannot be right",
        },
        "Ask patient {patient} to face the camera in even light, with nothing covering the face.",
        "2.86 % of the faces in the paper, section 3.3.1",
    ),
    Cause(
        "dark_or_grainy",
        "The picture is dark or grainy",
        {"dark": "too dark", "grainy": "grainy"},
        "Ask patient {patient} to record in a brighter room, with the light in front of them.",
        f"{_SIX}, issue 4",
    ),
    Cause(
        "glare",
        "Glare: the picture is too bright",
        {"glare": "glare"},
        "Ask patient {patient} to turn away from the sun or lamp, and to keep windows out of the picture.",
        f"{_SIX}, issue 3",
    ),
    Cause(
        "blurred_picture",
        "The picture is blurred",
        {"blurred": "blurred"},
        "Ask patient {patient} to clean the lens and to rest the phone on something firm.",
    ),
    Cause(
        "face_mask",
        "A mask or a hand covers the face",
        {"mask": "mouth and chin covered"},
        "Ask patient {patient} to record without a mask where that is safe, with nothing in front of the face.",
        f"{_SIX}, issue 2",
    ),
    Cause(
        "signage",
        "Signs or lettering in the background",
        {"signage": "lettering"},
        "Ask patient {patient} to sit in front of a plain wall.",
        f"{_SIX}, issue 1",
    ),
    Cause(
        "no_sound",
        "No voice, or only for part of the video",
        {
            "no_sound": "no sound track",
            "silent": "silent",
            "no_speech": "nobody speaks",
            "sound_cut": "sound for part of the video only",
        },
        "Ask patient {patient} to allow the app to use the microphone, and to speak until the end.",
        f"{_SIX}, issue 6",
    ),
    Cause(
        "quiet_or_muffled",
        "The voice is quiet or muffled",
        {"quiet": "quiet", "muffled": "muffled"},
        "Ask patient {patient} to speak up, closer to the phone, with nothing over the microphone.",
        f"{_SIX}, issue 5",
    ),
    Cause(
        "disturbed_sound",
        "The sound is noisy or clipped",
        {"noisy_sound": "noisy", "clipped": "clipped"},
        "Ask patient {patient} to record in a quiet room, at arm's length from the phone.",
    ),
)
"""Every cause, in the order in which its flags are reported."""

CAUSE_OF: Final[dict[str, Cause]] = {flag: cause for cause in CAUSES for flag in cause.flags}
"""Each flag's cause."""

FLAGS: Final[dict[str, str]] = {flag: says for cause in CAUSES for flag, says in cause.flags.items()}
"""Every flag in the order of reporting, with what it says about one video."""

SOUND_FLAGS: Final = frozenset(
    flag
    for cause in CAUSES
    if cause.check in ("no_sound", "quiet_or_muffled", "disturbed_sound")
    for flag in cause.flags
)
"""The flags on the sound of a video."""

_ON_LANDMARKS: Final = ("landmarks_missing", "landmarks_implausible")

EXPLAINS: Final[dict[str, tuple[str, ...]]] = {
    # a damaged file lacks sound as well, and a decoder holds the last picture that it has
    "wrong_frame_count": ("frozen", "sound_cut"),
    # little light: sensor noise, long exposure; where all is black nothing moves and no face is found
    "dark": ("grainy", "blurred", "frozen", "face_missing", "face_small", *_ON_LANDMARKS),
    "grainy": ("face_missing", *_ON_LANDMARKS),
    # MTCNN misses faces that are blown out
    "glare": ("face_missing", *_ON_LANDMARKS),
    "blurred": ("face_missing", *_ON_LANDMARKS),
    # whatever is mistaken for a face while the patient is out of the picture has no mesh or a wrong one
    "face_missing": _ON_LANDMARKS,
    "face_leaves": _ON_LANDMARKS,
    "face_small": _ON_LANDMARKS,
    # the larger of two faces alternates between the two people
    "several_faces": ("other_person", *_ON_LANDMARKS),
    # a mask hides half of the mesh and damps high tones
    "mask": ("face_missing", "muffled", *_ON_LANDMARKS),
    # detectors and embeddings are trained on upright faces
    "rotated": ("face_missing", "other_person", *_ON_LANDMARKS),
    # noise is measured relative to the voice, and a barely audible voice is not recognized as speech
    "quiet": ("muffled", "noisy_sound", "no_speech"),
    "muffled": ("no_speech",),
    "clipped": ("noisy_sound", "no_speech"),
    "noisy_sound": ("no_speech",),
}
"""Which flags another flag explains: in a video that has both, only the explaining one needs action."""


def root_flags(flags: Collection[str]) -> list[str]:
    """Return the flags of a video that none of its other flags explains.

    A flag that is not in `FLAGS` (a row of another version) counts as unexplained.

    Parameters
    ----------
    flags : collection of str
        All flags of one video.

    Returns
    -------
    list of str
        In the order of `flags`.

    Examples
    --------
    >>> root_flags(["face_missing", "dark", "grainy", "quiet"])
    ['dark', 'quiet']
    """
    explained = {other for flag in flags for other in EXPLAINS.get(flag, ())}
    return [flag for flag in flags if flag not in explained]


def roots_of(flag: str, flags: Collection[str]) -> set[str]:
    """Return the flags of a video that explain one of them: the flag itself where no other does.

    Examples
    --------
    >>> roots_of("landmarks_missing", ["landmarks_missing", "face_missing", "dark"])
    {'dark'}
    """
    explaining = [other for other in flags if flag in EXPLAINS.get(other, ())]
    return {root for other in explaining for root in roots_of(other, flags)} if explaining else {flag}


def causes_of(flags: Collection[str]) -> dict[str, list[str]]:
    """Group the unexplained flags of one video by cause: check name to flags.

    Examples
    --------
    >>> causes_of(["face_missing", "dark", "grainy", "quiet", "muffled"])
    {'dark_or_grainy': ['dark'], 'quiet_or_muffled': ['quiet']}
    """
    grouped: dict[str, list[str]] = {}
    for flag in root_flags(flags):
        if flag in CAUSE_OF:
            grouped.setdefault(CAUSE_OF[flag].check, []).append(flag)
    return grouped
