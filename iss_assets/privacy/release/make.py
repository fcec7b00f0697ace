"""Makes a release: everything is written beside its place, and moved there in one step at the end.

What identifies patients (the copy of the warehouse) never lies beside the release: it is in the home, and its name is
removed as soon as it is open; after a kill before that, the next command that uses the home removes it (``leftovers``).
The folder beside the release holds only what would be released; the next release there removes what a killed one left.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from iss_assets.intake.withdrawn import Withdrawn
from iss_assets.privacy.at_work import at_work
from iss_assets.privacy.audit import Action, AuditLog, sha256_of
from iss_assets.privacy.register import read_register
from iss_assets.privacy.release.anonymity import Generalized
from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.errors import ReleaseError
from iss_assets.privacy.release.leftovers import one_release_at_a_time, work_folder
from iss_assets.privacy.release.metadata import (
    Description,
    as_json,
    check_facts,
    croissant,
    datapackage,
    ro_crate,
)
from iss_assets.privacy.release.pages import agreement_page, data_card, withheld_table
from iss_assets.privacy.release.pseudonyms import Pseudonyms, release_key
from iss_assets.privacy.release.recognition import measure_recognition
from iss_assets.privacy.release.tables import Release, Withheld, WrittenTable
from iss_assets.privacy.sharing import Sharing, may_share
from iss_assets.protocol.consent import Scope
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.released import ReleasedTables

CHECKSUMS: Final = "SHA256SUMS"
"""The manifest: the checksum of every other file, as ``sha256sum --check`` reads it."""

_TIME: Final = 315532800
"""Time of every file: 1980-01-01, the earliest that archives can hold."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """Who gets what.

    Attributes
    ----------
    tier : Tier
        What may be in it.
    to : Path
        The folder; it must not exist, or be empty.
    agreement : str
        Number of the agreement. Releases under one agreement share their pseudonyms.
    recipient, purpose : str
        Who gets it and what for; the controlled tier needs both.
    """

    tier: Tier
    to: Path
    agreement: str = ""
    recipient: str = ""
    purpose: str = ""

    def missing(self) -> list[str]:
        """Return what the tier needs and the request does not say."""
        if self.tier is not Tier.controlled:
            return []
        return [n for n in ("recipient", "purpose", "agreement") if not getattr(self, n).strip()]


@dataclass(frozen=True)
class Released:
    """A release that was made: its folder, its manifest's checksum, and what it says."""

    folder: Path
    manifest: str
    description: Description


def make_release(
    settings: Settings, warehouse: Warehouse, request: Request, who: str, progress: Progress = lambda _: None
) -> Released:
    """Write a release folder and record it in the audit log.

    Parameters
    ----------
    settings : Settings
        The facts about the study, and what generalization must reach.
    warehouse : Warehouse
        The study's tables.
    request : Request
        Tier, folder, and who it is for.
    who : str
        Account for the audit log.
    progress : callable
        Called with the name of every step before it is done.

    Raises
    ------
    ReleaseError
        If a fact is missing, the folder is not empty, or the data cannot be made safe. Nothing is left behind then.
    """
    check_facts(settings.release)
    if missing := request.missing():
        raise ReleaseError(f"a controlled release needs {' and '.join(missing)}")
    to = request.to.absolute()
    _check_place(to, settings)
    with (
        at_work(settings.home),
        one_release_at_a_time(settings.home, settings.warehouse.lock_timeout_s),
    ):
        partial = to.with_name(f".{to.name}.unfinished")
        work = work_folder(settings.home)
        for left in (partial, work):
            if left.exists():
                shutil.rmtree(left)
        try:
            progress("prepare")
            key = release_key(settings.release_key_path)
            partial.mkdir(mode=0o700)
            described = _write(settings, warehouse, request, partial, work, key, progress)
            progress("checksums")
            manifest = _seal(partial)
            progress("record")
            AuditLog.of(settings).record(
                who,
                Action.RELEASED,
                None,
                to=str(to),
                tier=str(request.tier),
                recipient=request.recipient,
                purpose=request.purpose,
                agreement=described.agreement,
                patients=described.counts["patients"],
                sha256={CHECKSUMS: manifest},
            )
            progress("move into place")
            partial.rename(to)
            _sync(to.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    progress("done")
    return Released(to, manifest, described)


def _check_place(to: Path, settings: Settings) -> None:
    home = settings.home.resolve()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ReleaseError(f"{to.name!r} is there already; name a new folder")
    if not to.parent.is_dir():
        raise ReleaseError(f"there is no folder {to.parent.name!r}")
    for inside, what in ((home, "home"), (settings.study.resolve(), "study folder")):
        if to.resolve().is_relative_to(inside):
            raise ReleaseError(f"{to.name!r} lies in the {what}; a release leaves it")


def _write(
    settings: Settings,
    warehouse: Warehouse,
    request: Request,
    partial: Path,
    work: Path,
    key: bytes,
    progress: Progress,
) -> Description:
    """Write every file but the checksums."""
    agreement = request.agreement.strip() or f"{request.tier} tier"
    work.mkdir(mode=0o700)
    copy = warehouse.copied(work / "snapshot.duckdb")
    progress("open the copy")
    with copy.read(threads=1) as connection:
        # it is open: without a name nothing is left of it when this process ends, however it ends
        for file in work.glob("snapshot.duckdb*"):
            file.unlink()
        sharing = _sharing(connection, request.tier, read_register(settings))
        pseudonyms = Pseudonyms(key, agreement)
        release = Release.prepare(connection, request.tier, settings.release, pseudonyms, sharing)
        written: list[WrittenTable] = []
        for table in release.tables():
            progress(table.__table__)
            found = release.write(table, partial)
            written += [found] if found else []
    if sharing.left_out:
        why = "no consent to sharing what this tier has, or withdrawn"
        release.withheld.append(Withheld("patients", f"{sharing.left_out} patients", why))
    progress("recognition")
    tables = ReleasedTables(partial)
    described = Description(
        tier=request.tier,
        settings=settings,
        agreement=agreement,
        recipient=request.recipient,
        purpose=request.purpose,
        sharing=sharing,
        smallest=release.generalized.smallest,
        tables=tuple(written),
        counts=_counts(tables, {t.table.__table__ for t in written}),
        groups=_groups(tables, release.generalized),
        recognition=tuple(measure_recognition(tables)),
        withheld=tuple(release.withheld),
    )
    _describe(described, partial, progress)
    return described


def _sharing(connection: duckdb.DuckDBPyConnection, tier: Tier, withdrawn: Withdrawn) -> Sharing:
    """Return who agreed to everything that a tier shares."""
    sharing = may_share(connection, Scope.SHARE_FEATURES, withdrawn)
    if tier is not Tier.controlled:
        return sharing
    media = may_share(connection, Scope.SHARE_MEDIA, withdrawn)
    withheld = {*sharing.withheld, *media.withheld}
    kept = tuple(p for p in sharing.patients if p not in withheld)
    return Sharing(kept, tuple(sorted(withheld)), sharing.recorded)


def _describe(described: Description, partial: Path, progress: Progress) -> None:
    files = [t.path for t in described.tables]
    progress("data dictionary")
    texts = {"datapackage.json": as_json(datapackage(described))}
    progress("croissant")
    texts["croissant.json"] = as_json(croissant(described, files))
    progress("data card")
    texts |= {
        "README.md": data_card(described),
        "AGREEMENT.md": agreement_page(described),
        "withheld.csv": withheld_table(described),
    }
    for name, text in texts.items():
        (partial / name).write_text(text, encoding="utf-8")
    progress("RO-Crate")
    every = [*files, *(partial / name for name in texts)]
    (partial / "ro-crate-metadata.json").write_text(as_json(ro_crate(described, every)), encoding="utf-8")


def _counts(tables: ReleasedTables, names: set[str]) -> dict[str, int]:
    with tables.read() as connection:
        counts = {"patients": _one(connection, "select count(*) from patients")}
        if "videos" in names and "bpi_scores" in names:
            counts |= {
                "submissions": _one(connection, "select count(*) from bpi_scores"),
                "missing_answers": _one(
                    connection, "select coalesce(sum(missing_scores), 0)::bigint from bpi_scores"
                ),
                "videos": _one(connection, "select count(*) from videos"),
                "usable": _one(connection, "select count(*) from video_quality where usable"),
            }
    return counts


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0


def _groups(tables: ReleasedTables, found: Generalized) -> dict[str, dict[str, int]]:
    """Count the released patients by every attribute, and by split."""
    rows = tables.query("select * from patients").to_pylist()
    attributes = ("sex", "skin_group", "age_group", "pain_level")
    groups = {
        c: dict(sorted(Counter("withheld" if r[c] is None else str(r[c]) for r in rows).items()))
        for c in attributes
        if c in found.withheld or any(r[c] is not None for r in rows)
    }
    splits = Counter(
        str(n) for n in tables.query("select split from cv_splits order by all")["split"].to_pylist()
    )
    return groups | ({"split": dict(splits)} if splits else {})


def _seal(folder: Path) -> str:
    """Write the manifest, give every file the same time and rights, and see that all of it is on disk."""
    files = sorted(p for p in folder.iterdir() if p.name != CHECKSUMS)
    manifest = folder / CHECKSUMS
    manifest.write_text("".join(f"{sha256_of(p)}  {p.name}\n" for p in files), encoding="utf-8")
    for path in [*files, manifest, folder]:
        if path.is_file():
            path.chmod(0o600)
        os.utime(path, (_TIME, _TIME))
        _sync(path)
    return sha256_of(manifest)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
