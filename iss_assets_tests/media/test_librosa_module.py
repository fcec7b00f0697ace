"""librosa's import: one process at a time, everywhere in the package."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

import iss_assets
from iss_assets.media.librosa_module import one_process_at_a_time

PACKAGE = Path(iss_assets.__file__).parent
# a pause of its own for each process, so that they do not write the same file at the same moment, but mix them
MEASURE = """
import sys, time
time.sleep(float(sys.argv[1]))
import numpy as np
from iss_assets.media.librosa_module import librosa
power = np.random.default_rng(0).random((1025, 40)).astype(np.float32)
librosa.piptrack(S=power, sr=22050, n_fft=2048)
print(librosa.__file__)
"""
LOADED_LATER = """
import sys
import numpy as np
from iss_assets.media import librosa_module
from iss_assets.media.sound_features import sound_features
from iss_assets.settings import AudioSettings
before = set(sys.modules)
sound_features(np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32), AudioSettings())
for name in sorted(set(sys.modules) - before):
    if name.startswith("librosa") and any(
        type(value).__module__.startswith("numba") for value in vars(sys.modules[name]).values()
    ):
        print(name)
"""


def test_nothing_else_in_the_package_imports_librosa() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "librosa_module.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            assert not any(name.split(".")[0] == "librosa" for name in names), f"{path.name}:{node.lineno}"  # type: ignore[attr-defined]


def test_features_compile_nothing_after_the_import() -> None:
    """What is compiled later would be compiled outside the lock."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_LATER], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == []


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    entered = threading.Event()

    def second() -> None:
        with one_process_at_a_time(tmp_path):
            entered.set()

    waiting = threading.Thread(target=second)
    with one_process_at_a_time(tmp_path):
        waiting.start()
        assert not entered.wait(0.3)
    waiting.join(60)
    assert entered.is_set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.thorough
def test_processes_that_start_together_on_a_new_installation_all_live(tmp_path: Path) -> None:
    """Without the lock two of four such processes die of a segmentation fault."""
    spec = find_spec("librosa")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(
        Path(spec.origin).parent, tmp_path / "librosa", ignore=shutil.ignore_patterns("*.nbc", "*.nbi")
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEASURE, str(pause)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for pause in (0.0, 0.3, 0.6, 0.9)
    ]
    for process in processes:
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert Path(printed.strip()).is_relative_to(tmp_path)
