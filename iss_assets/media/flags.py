"""The troubles that a video can have, by name, and what a coordinator can do about each.

Belongs here: words. Does not belong here: finding the troubles (``quality``); so this imports nothing heavy and can
be read by the command line, alerts and pages.
"""

from __future__ import annotations

from typing import Final

FLAGS: Final[dict[str, str]] = {
    "unreadable": "Nothing can be seen in the file: ask the patient to submit it again.",
    "duplicate": "The same file was submitted before: ask which check-in it belongs to.",
    "too_short": "Shorter than the protocol allows: ask the patient to speak for at least 15 seconds.",
    "too_long": "Longer than the protocol allows.",
    "wrong_frame_count": "Frames are missing for the video's duration: the recording is damaged or was cut short.",
    "frozen": "The picture stands still: ask the patient to record again.",
    "face_missing": "No face for much of the video: ask the patient to keep the face in the picture.",
    "face_leaves": "The face is cut by the picture's edge: ask the patient to hold the phone farther away.",
    "face_small": "The face is too small: ask the patient to come nearer.",
    "several_faces": "More than one face: ask the patient to record alone.",
    "other_person": "The face seems to be another person's: look at the video.",
    "rotated": "The face stands upside down, sideways or mirrored: ask the patient to hold the phone upright.",
    "landmarks_missing": "Face Mesh fails on many faces: look at light, distance and what covers the face.",
    "landmarks_implausible": "Landmarks jump or cannot be right: look at what covers the face.",
    "dark": "Too dark: ask the patient to record in a brighter room.",
    "glare": "Too bright: ask the patient to turn away from sun and lamps.",
    "grainy": "Grainy: ask the patient to record in a brighter room and to clean the lens.",
    "blurred": "Blurred: ask the patient to clean the lens and hold the phone still.",
    "mask": "A mask covers mouth and chin: ask the patient to take it off where that is safe.",
    "signage": "Lettering in the background: ask the patient to sit before a plain wall.",
    "no_sound": "There is no sound track: ask the patient to allow the microphone.",
    "silent": "The sound track is silent: ask the patient to check the microphone.",
    "quiet": "The voice is too quiet: ask the patient to come nearer to the microphone.",
    "muffled": "The voice is muffled: ask the patient to keep hands and mask off the microphone.",
    "noisy_sound": "Noise drowns the voice: ask the patient to record in a quiet room.",
    "clipped": "The sound is overdriven: ask the patient to speak from farther away.",
    "no_speech": "Nobody seems to speak.",
    "sound_cut": "The sound covers only a part of the video.",
}
"""Every flag, in the order in which they are reported, and what a coordinator can do about it."""
