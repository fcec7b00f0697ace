"""Copy all objects of the bucket of a shared warehouse into a folder, and back: a part of ``deploy/backup.sh`` and ``restore.sh``.

``python3 -m iss_assets.warehouse.bucket_copy save FOLDER`` copies from ``ISS_WAREHOUSE__DATA_PATH`` into a new folder, and ``load
FOLDER`` into an address without objects. The folder is as a data folder would be, so that a backup of one can be restored into the
other.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import ValidationError

from iss_assets.settings import OBJECT_STORAGE, WarehouseSettings
from iss_assets.warehouse.data_bucket import Bucket
from iss_assets.warehouse.data_place import STUDY_MARK
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.object_storage import ObjectGone, StorageProblem

_AT_ONCE: Final = 8
_TOLD_EVERY: Final = 500
_SETTING: Final = "ISS_WAREHOUSE__DATA_PATH"
_USAGE: Final = "usage: python3 -m iss_assets.warehouse.bucket_copy save|load FOLDER"


def save(bucket: Bucket, folder: Path) -> None:
    """Copy every object into a new folder.

    Objects that are removed meanwhile are left out: whoever reads the catalog knows whether it needs them.

    Raises
    ------
    StorageProblem
        If the bucket cannot be read, or the name of an object would be no file of the folder.
    """
    folder.mkdir(parents=True)
    for name in sorted(bucket.marks()):
        # in a folder a mark is one, too
        _inside(folder, name).mkdir()

    def one(name: str) -> None:
        target = _inside(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            bucket.download(name, target)
        except ObjectGone:
            target.unlink(missing_ok=True)

    _all(one, list(bucket.names()), "saved")


def load(bucket: Bucket, folder: Path) -> None:
    """Copy every file of a folder that `save` has made.

    Raises
    ------
    StorageProblem
        If there are objects at the address already, or it cannot be written to.
    """
    if bucket.has_entries() or bucket.marks():
        raise StorageProblem("there are objects at this address already")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    _all(
        lambda name: bucket.upload(name, folder / name, _md5(folder / name)),
        [path.relative_to(folder).as_posix() for path in found],
        "restored",
    )
    for mark in sorted(folder.glob(f"{STUDY_MARK}*/")):
        bucket.mark(mark.name)


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or name != "/".join(parts) or parts[0] == "/" or {"..", "."} & set(parts):
        raise StorageProblem(
            "the name of an object is none of a file in a folder, so it is not the warehouse's: remove it"
        )
    return folder.joinpath(*parts)


def _md5(path: Path) -> str:
    """Return the checksum with which a server refuses what was changed on the way, as it wants it."""
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()


def _all(one: Callable[[str], None], names: list[str], done: str) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for number, _ in enumerate(pool.map(one, names), 1):
            if number % _TOLD_EVERY == 0:
                print(f"{number} of {len(names)} objects {done}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Run the command, and return its exit status: 1 if the bucket failed, 2 if it was called wrongly."""
    address = os.environ.get(_SETTING, "")
    if len(arguments) != 2 or arguments[0] not in ("save", "load") or not address.startswith(OBJECT_STORAGE):
        print(f"{_USAGE}, with {_SETTING}={OBJECT_STORAGE}BUCKET/PREFIX", file=sys.stderr)
        return 2
    try:
        settings = WarehouseSettings.model_validate(
            {
                "data_path": address,
                "plain_http": os.environ.get("ISS_WAREHOUSE__PLAIN_HTTP", "false"),
                # the scripts reach it themselves
                "catalog": "postgres:service=iss",
            }
        )
    except ValidationError as error:
        print(f"{_SETTING}: {'; '.join(one['msg'] for one in error.errors())}", file=sys.stderr)
        return 2
    bucket = Bucket(str(settings.data_path), plain_http=settings.plain_http)
    try:
        (save if arguments[0] == "save" else load)(bucket, Path(arguments[1]))
    except StorageProblem as problem:
        print(f"{bucket.name}: {problem.strerror}", file=sys.stderr)
        return 1
    except WarehouseError as problem:
        print(problem, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the backup: {error.strerror or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
