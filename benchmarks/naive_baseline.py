"""The naive way to extract a video: the baseline that the project's extraction is compared with.

It uses PyAV, facenet-pytorch, MediaPipe and librosa with their defaults and writes one file per picture. It must not use
the extraction code of ``iss_assets.media``, to which it is compared.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

FPS = 10


@dataclass
class Extraction:
    """Results, with one entry per sampled frame."""

    boxes: list[np.ndarray | None] = field(default_factory=list)
    """Box of the largest face, shape (4,), in pixels of the upright frame."""
    all_boxes: list[np.ndarray] = field(default_factory=list)
    """Box and probability of every face, shape (n, 5)."""
    points: list[np.ndarray | None] = field(default_factory=list)
    """Face mesh of the crop, shape (468, 3)."""
    seconds: float = 0.0
    seconds_by_stage: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@functools.cache
def networks() -> tuple[Any, Any]:
    """Load MTCNN and Face Mesh with their defaults, once per process."""
    import mediapipe
    from facenet_pytorch import MTCNN

    mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=1, refine_landmarks=False
    )
    return MTCNN(), mesh


def sampled_pictures(path: Path, seconds: float = float("inf")) -> Iterator[Image.Image]:
    """Yield the picture shown at every tenth of a second, for at most `seconds`."""
    with av.open(str(path)) as container:
        shown: av.VideoFrame | None = None
        start, end, index = 0.0, 0.0, 0
        for frame in container.decode(container.streams.video[0]):
            if shown is None:
                start = frame.time
            while shown is not None and index / FPS < frame.time - start - 1e-6:
                if index / FPS >= seconds:
                    return
                yield upright(shown)
                index += 1
            shown = frame
            end = frame.time - start + float((frame.duration or 0) * (frame.time_base or 0))
        while shown is not None and index / FPS < min(end, seconds) - 1e-6:
            yield upright(shown)
            index += 1


def upright(frame: av.VideoFrame) -> Image.Image:
    """Convert a frame to an RGB picture, rotated according to the metadata of the file."""
    picture = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def extract(path: Path, folder: Path, seconds: float = float("inf")) -> Extraction:
    """Extract frames, faces and landmarks of one video into files in `folder`."""
    mtcnn, mesh = networks()
    for name in ("frames", "faces", "landmarks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    result = Extraction()
    spent = result.seconds_by_stage
    began = last = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent[stage] += now - last
        last = now

    for index, picture in enumerate(sampled_pictures(path, seconds)):
        lap("decode")
        picture.save(folder / "frames" / f"{index:06d}.jpg")
        lap("write frame")
        boxes, probabilities = mtcnn.detect(picture)
        lap("detect")
        if boxes is None:
            result.boxes.append(None)
            result.points.append(None)
            result.all_boxes.append(np.empty((0, 5)))
            continue
        result.boxes.append(np.asarray(boxes[0], float))
        result.all_boxes.append(np.column_stack([boxes, probabilities]).astype(float))
        crop_file = folder / "faces" / f"{index:06d}.jpg"
        mtcnn.extract(picture, boxes, str(crop_file))
        lap("crop")
        found = mesh.process(np.asarray(Image.open(crop_file))).multi_face_landmarks
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark]) if found else None
        result.points.append(points)
        if points is not None:
            np.save(folder / "landmarks" / f"{index:06d}.npy", points)
        lap("mesh")
    result.seconds = time.perf_counter() - began
    return result


SAMPLE_RATE, CHUNK_SECONDS = 22050, 4.0


def extract_sound(path: Path, folder: Path, seconds: float = float("inf")) -> tuple[np.ndarray, float]:
    """Extract spectrograms and the 25 features of every whole chunk into files in `folder`.

    Returns
    -------
    features : ndarray, shape (chunks, 25)
        20 MFCC, chroma, centroid, bandwidth, roll-off, zero crossings, in the order of ``audio_features``.
    spent : float
        Duration in seconds.
    """
    from iss_assets.media.librosa_module import librosa

    (folder / "sound").mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    samples = decoded_sound(path, seconds)
    size = int(CHUNK_SECONDS * SAMPLE_RATE)
    rows = []
    for start in range(0, len(samples) - size + 1, size):
        y, sr = samples[start : start + size], SAMPLE_RATE
        mel = librosa.feature.melspectrogram(y=y, sr=sr, n_fft=2048, hop_length=512, n_mels=128)
        np.save(folder / "sound" / f"{start // size:04d}.npy", librosa.power_to_db(mel, ref=np.max))
        parts = [
            librosa.feature.mfcc(y=y, sr=sr, n_mfcc=20).mean(axis=1),
            librosa.feature.chroma_stft(y=y, sr=sr).mean(),
            librosa.feature.spectral_centroid(y=y, sr=sr).mean(),
            librosa.feature.spectral_bandwidth(y=y, sr=sr).mean(),
            librosa.feature.spectral_rolloff(y=y, sr=sr).mean(),
            librosa.feature.zero_crossing_rate(y).mean(),
        ]
        rows.append(np.hstack(parts))
    return np.array(rows).reshape(-1, 25), time.perf_counter() - began


def decoded_sound(path: Path, seconds: float) -> np.ndarray:
    """Decode the sound track for librosa: mono, 22,050 Hz, float32."""
    from iss_assets.media.librosa_module import librosa

    blocks: list[np.ndarray] = []
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return np.empty(0, np.float32)
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")
        for frame in container.decode(stream):
            blocks += [part.to_ndarray() for part in to_float.resample(frame)]
            # half a second more, so that the resampling filter does not affect the end
            if sum(block.shape[1] for block in blocks) > (seconds + 0.5) * stream.rate:
                break
        mono = librosa.to_mono(np.concatenate(blocks, axis=1))
    samples = librosa.resample(mono, orig_sr=stream.rate, target_sr=SAMPLE_RATE)
    return samples[: int(min(seconds * SAMPLE_RATE, len(samples)))]
