"""A patient withdraws: everything of them is removed from the home, and a certificate says so.

The work is a list of steps. Each can be repeated, and ``withdrawals/pending.json`` says which are done, so that a
withdrawal that was killed is carried on by the next ``iss withdraw`` or ``iss run``. That file names the patient; it is
the last to go.

The order matters. First the register, so that nothing of the patient is taken in any more. Then everyone at work is
waited for. Then tables, files, Dagster's history, the study folder, the audit log, and at last the search.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from iss_assets.atomic import replace_text
from iss_assets.intake import cells
from iss_assets.intake.folder import read_study
from iss_assets.intake.records import StudyFolderError
from iss_assets.intake.withdrawn import FOLDER, Scope, keyed_hash
from iss_assets.privacy.at_work import nobody_at_work
from iss_assets.privacy.audit import Action, AuditLine, AuditLog, system_user
from iss_assets.privacy.certificate import Certificate, read_certificates, write_certificate
from iss_assets.privacy.dagster_history import forget_in_history, plan_forgetting
from iss_assets.privacy.home_words import words_of_home
from iss_assets.privacy.one_study import require_one_study
from iss_assets.privacy.own_folder import require_own
from iss_assets.privacy.postgres_history import forget_in_postgres, plan_forgetting_in_postgres
from iss_assets.privacy.register import (
    note_home,
    other_homes,
    read_register,
    register_withdrawal,
    share_register,
    to_clean,
)
from iss_assets.privacy.release.leftovers import work_folder
from iss_assets.privacy.study_files import StudyFiles, delete_study_files, find_study_files, hashes_of
from iss_assets.privacy.traces import SearchResult, Traces, search_home, search_tables
from iss_assets.privacy.withdrawn_rows import FILES, Removed, ask_again, remove_rows, traces_in
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.engine import Opened, is_encrypted
from iss_assets.warehouse.keys import configured_key
from iss_assets.warehouse.lake_erasure import erase, texts_in_catalog
from iss_assets.warehouse.rewriting import rewrite

Log = Callable[[str], None]

_COPIES: Final = (
    Action.EXPORT_BEGUN,
    Action.EXPORTED,
    Action.SNAPSHOT_BEGUN,
    Action.SNAPSHOT_TAKEN,
    Action.RELEASED,
)
_WAREHOUSE: Final = "warehouse"
"""The step after which no byte of what was deleted is left in the warehouse."""


@dataclass
class Pending:
    """A withdrawal in progress, as ``pending.json`` holds it."""

    withdrawal_id: str
    traces: Traces
    scope: Scope
    reason: str
    source: bool
    who: str
    asked_at: str
    done: list[str] = field(default_factory=list)
    runs: list[str] | None = None
    """Runs of Dagster's history that go, listed before the first does."""
    known: dict[str, Any] = field(default_factory=dict)
    """What the finished steps have to say in the certificate."""
    elsewhere: bool = False
    """Whether it was carried out on another host, and this home is what is left."""


@dataclass(frozen=True)
class Preview:
    """What a withdrawal would touch, for the question before it begins.

    Attributes
    ----------
    submissions : int
        Submissions that are known.
    study_files : StudyFiles
        What the study folder holds.
    copies : int
        Snapshots, exports and releases in the audit log.
    """

    submissions: int
    study_files: StudyFiles
    copies: int


def pending_path(home: Path) -> Path:
    """Return the file that says what remains to be done."""
    return home / FOLDER / "pending.json"


def preview(settings: Settings, patient: str) -> Preview:
    """Look at what a withdrawal would touch; nothing is changed.

    Raises
    ------
    ValueError
        If nobody knows the patient.
    """
    traces = _collect(settings, patient)
    return Preview(
        len(traces.submissions),
        find_study_files(settings.study, traces, settings.reading),
        len(_copies(settings, traces)),
    )


def withdraw(
    settings: Settings,
    patient: str,
    *,
    reason: str,
    who: str,
    log: Log,
    scope: Scope = Scope.ALL,
    source: bool = False,
) -> Certificate:
    """Carry out a withdrawal, or finish the one that was interrupted.

    Parameters
    ----------
    settings : Settings
        Where the study and the home are.
    patient : str
        Patient id.
    reason : str
        Why, for the certificate; must not name the patient.
    who : str
        Who carries it out, for the audit log.
    log : callable
        Takes a line of text for the person who waits; none names the patient.
    scope : Scope
        What is withdrawn.
    source : bool
        Whether the patient's files and rows in the study folder are deleted too.

    Raises
    ------
    ValueError
        If nobody knows the patient, or the reason is empty or names the patient. Nothing was changed then.
    OtherFolder
        If the study folder is of another study than the home. Nothing was changed then.
    """
    finished = finish_pending(settings, log)
    if settings.home.is_dir():
        follow_other_hosts(settings, log)
    if finished is not None and did(settings, finished, patient, scope, source=source):
        return finished
    reason = " ".join(reason.split())
    if not reason:
        raise ValueError("a withdrawal needs a reason, for the certificate: --reason")
    if not settings.home.is_dir():
        raise ValueError(
            f"there is no home {settings.home.name!r}; name the right one with --home or ISS_HOME"
        )
    traces = _collect(settings, patient)
    if traces.in_text(reason) or read_register(settings).without_ids(reason) != reason:
        raise ValueError(
            "the reason names the patient, somebody else who withdrew, or a submission; leave that out, it stays in the "
            "certificate"
        )
    pending = Pending(
        uuid.uuid4().hex,
        traces,
        scope,
        reason,
        source,
        who,
        datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    _begin(settings, pending)
    certificate = _carry_out(settings, pending, log)
    follow_other_hosts(settings, log)
    return certificate


def did(settings: Settings, certificate: Certificate, patient: str, scope: Scope, *, source: bool) -> bool:
    """Return whether a withdrawal was of this patient and scope, and of the study folder too if that is wanted."""
    return (certificate.scope, certificate.patient) == (
        str(scope),
        _hash(settings, patient),
    ) and (not source or scope is not Scope.ALL or bool(certificate.source.get("deleted")))


def finish_pending(settings: Settings, log: Log) -> Certificate | None:
    """Finish a withdrawal that was interrupted; None if there is none.

    Raises
    ------
    ValueError
        If the file that describes it is damaged.
    """
    pending = _read(settings)
    if pending is None:
        return None
    log("a withdrawal was interrupted; it is finished first")
    require_one_study(settings)
    return _carry_out(settings, pending, log)


def follow_other_hosts(settings: Settings, log: Log) -> list[Certificate]:
    """Remove from this home what names patients who withdrew on another host of a shared warehouse.

    The register knows them by hashes only. So every word of the home is compared with it, once after each change of it.

    Returns
    -------
    list of Certificate
        One for each patient whom something in the home named.
    """
    require_one_study(settings)
    share_register(settings)
    note_home(settings)
    change = to_clean(settings)
    if change is None:
        return []
    register = read_register(settings)
    known = {(one.patient, one.scope) for one in read_certificates(settings.home)}
    certificates = []
    for patient, submissions in _named_here(settings):
        scope = register.scope_of(patient)
        if scope in (None, Scope.SHARING) or (_hash(settings, patient), str(scope)) in known:
            continue
        log("a patient withdrew on another host; what this home keeps of them is removed")
        traces = _collect(settings, patient)
        traces = replace(traces, submissions=tuple(sorted({*traces.submissions, *submissions})))
        pending = Pending(
            uuid.uuid4().hex,
            traces,
            scope,
            "withdrawn on another host that shares the warehouse",
            False,
            system_user(),
            datetime.now(UTC).isoformat(timespec="microseconds"),
            elsewhere=True,
        )
        _begin(settings, pending)
        certificates.append(_carry_out(settings, pending, log))
    note_home(settings, cleaned_to=change)
    return certificates


def _named_here(settings: Settings) -> list[tuple[str, list[str]]]:
    """Return the patients who withdrew and are named in the home, each with the submissions that belong to them.

    Whose a submission is, nobody can tell if its name does not say it: it is listed for all of them.
    """
    patients, submissions = read_register(settings).named_in(words_of_home(settings))
    return [(patient, sorted(submissions)) for patient in sorted(patients)]


def _carry_out(settings: Settings, pending: Pending, log: Log) -> Certificate:
    home, scope = settings.home, pending.scope
    # first, so that nothing new begins for the patient while others are waited for
    _register(settings, pending)
    with nobody_at_work(home, lambda: log("waiting for the runs in progress")):
        waited_for = _read(settings)
        if waited_for is None or waited_for.withdrawal_id != pending.withdrawal_id:
            # another process has finished it meanwhile
            return next(c for c in read_certificates(home) if c.withdrawal_id == pending.withdrawal_id)
        pending = waited_for
        for partial in (home / FOLDER).glob(".*.tmp"):
            partial.unlink(missing_ok=True)
        if "collected" not in pending.done:
            # what the runs that were waited for have added
            more = _collect(settings, pending.traces.patient)
            pending.traces = _joined(pending.traces, more)
            pending.known["copies"] = _copies(settings, pending.traces)
            _register(settings, pending)
            _finished(settings, pending, "collected", log)
        for name, say, step in _SHARING_STEPS if scope is Scope.SHARING else _STEPS:
            if name not in pending.done:
                log(say)
                if name == _WAREHOUSE and _warehouse(settings).shared:
                    log(
                        "in the shared warehouse, whoever has been reading since before is waited for, and others wait to write"
                    )
                step(settings, pending)
                _finished(settings, pending, name, log)
        _record(settings, pending)
        _finished(settings, pending, "recorded", log)
        if scope is not Scope.SHARING:
            log("searching every byte of the home")
            pending.known["search"] = asdict(_search(settings, pending))
            pending.known["elsewhere"] = (
                [f"the home on {other.host}, last used on {other.seen}" for other in other_homes(settings)]
                if not pending.elsewhere
                else []
            )
        certificate = _certificate(settings, pending)
        write_certificate(home, certificate)
        log("the certificate is written")
        pending_path(home).unlink()
    return certificate


def _warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings.warehouse_path, settings.warehouse)


def _read(settings: Settings) -> Pending | None:
    path = pending_path(settings.home)
    try:
        found = json.loads(path.read_text("utf-8"))
        return Pending(
            **{**found, "traces": Traces.from_dict(found["traces"]), "scope": Scope(found["scope"])}
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{FOLDER}/{path.name} in the home describes a withdrawal that was interrupted, and it cannot be read; "
            "delete it and repeat the withdrawal with: iss withdraw"
        ) from error


def _collect(settings: Settings, patient: str) -> Traces:
    """Return what identifies a patient, from the warehouse and the study folder.

    Raises
    ------
    ValueError
        If neither knows the patient, and nobody of this id has withdrawn.
    OtherFolder
        If the study folder is of another study than the home.
    """
    try:
        cells.patient_id(patient)
    except cells.CellError as error:
        raise ValueError(f"not a patient id: {error}") from None
    traces = Traces(patient)
    warehouse = _warehouse(settings)
    if warehouse.exists():
        traces = traces_in(warehouse, patient)
    known = bool(traces.submissions)
    others: set[str] = set()
    try:
        # without the register: it may refuse the patient already, if this is repeated
        folder = read_study(settings.study, settings.reading)
    except StudyFolderError:
        pass
    else:
        # the patient of this id in another study is somebody else
        require_own(settings, folder)
        known = known or patient in folder.patient_ids
        mine = {s.submission_id for s in folder.submissions_of(patient)}
        mine |= {v.submission_id for v in folder.videos_of(patient)}
        mine |= {
            p.submission_id
            for p in (*folder.rejected, *folder.problems)
            if p.patient_id == patient and p.submission_id
        }
        theirs = {s.submission_id for s in folder.submissions if s.patient_id != patient}
        theirs |= {v.submission_id for v in folder.videos if v.patient_id != patient}
        others = theirs | set(folder.patient_ids)
        traces = replace(traces, submissions=tuple(sorted({*traces.submissions, *mine} - theirs)))
        traces = replace(traces, files=tuple(sorted({*traces.files, *_own_hashes(settings, traces)})))
    known = (
        known or read_register(settings).scope_of(patient) is not None or bool(_rows_of(settings, patient))
    )
    if not known:
        raise ValueError("neither the study folder nor the home knows a patient of this id")
    return traces.with_others({*traces.others, *others})


def _own_hashes(settings: Settings, traces: Traces) -> list[str]:
    """Return the hashes of the patient's files, without those that another patient has submitted as well."""
    hashes, warehouse = hashes_of(settings.study, traces), _warehouse(settings)
    if not hashes or not warehouse.exists():
        return hashes
    shared = warehouse.query(f"select sha256 from ({FILES}) where patient_id <> ?", [traces.patient])[
        "sha256"
    ].to_pylist()
    return [one for one in hashes if one not in set(shared)]


def _rows_of(settings: Settings, patient: str) -> int:
    warehouse = _warehouse(settings)
    if not warehouse.exists():
        return 0
    found = warehouse.query(
        "select (select count(*) from patients where patient_id = ?) + "
        "(select count(*) from extractions where patient_id = ?) as n",
        [patient, patient],
    )
    return int(found["n"][0].as_py())


def _joined(first: Traces, second: Traces) -> Traces:
    def both(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*getattr(first, name), *getattr(second, name))))

    return Traces(first.patient, both("submissions"), both("files"), both("samples"), both("others"))


def _copies(settings: Settings, traces: Traces) -> list[dict[str, Any]]:
    """Return the snapshots, exports and releases of the audit log."""
    return [
        {
            "line": line.number,
            "at": line.at.isoformat(timespec="seconds"),
            "action": line.action,
            "who": line.who,
            **{name: _unless_named(line.detail.get(name, ""), traces) for name in ("to", "purpose")},
        }
        for line in AuditLog.of(settings).lines()
        if line.action in _COPIES and not line.redacted
    ]


def _unless_named(text: object, traces: Traces) -> str:
    return "(left out: it named the patient)" if traces.in_text(str(text)) else str(text)


def _register(settings: Settings, pending: Pending) -> None:
    traces, whole = pending.traces, pending.scope is Scope.ALL
    files = traces.files if pending.scope is not Scope.SHARING else ()
    register_withdrawal(settings, traces.patient, pending.scope, traces.submissions if whole else (), files)


def _remove_rows(settings: Settings, pending: Pending) -> None:
    warehouse = _warehouse(settings)
    if not warehouse.exists():
        return

    def before_it_counts(removed: Removed) -> None:
        _remember(settings, pending, **asdict(removed))

    remove_rows(warehouse, pending.traces, pending.scope, before_it_counts)


def _remember(settings: Settings, pending: Pending, **known: Any) -> None:
    """Keep what a step is about to do; after an interruption, what it was about to do the first time."""
    for name, value in known.items():
        pending.known.setdefault(name, value)
    _save(settings, pending)


def _rewrite(settings: Settings, pending: Pending) -> None:
    warehouse = _warehouse(settings)
    if warehouse.exists():
        _remember(settings, pending, bytes_before=warehouse.size())
        if warehouse.shared and pending.elsewhere and not any(pending.known.get("rows", {}).values()):
            # the other host has done it
            return
        if warehouse.shared:
            _leave_to_administrator(settings, pending, erase(warehouse))
        else:
            rewrite(warehouse)
        _remember(settings, pending, bytes_after=warehouse.size())


def _leave_to_administrator(settings: Settings, pending: Pending, left: list[str]) -> None:
    """Note for the certificate what is left on a database server."""
    pending.known["server"] = list(dict.fromkeys([*pending.known.get("server", ()), *left]))
    _save(settings, pending)


def _remove_files(settings: Settings, pending: Pending) -> None:
    traces = pending.traces
    counts: Counter[str] = Counter()
    going = []
    for folder, words in (
        (settings.spool_dir, "waiting extractions and locks"),
        (settings.journal_dir, "journals of reading"),
        (settings.reads_dir, "reads of the study folder that wait for a run"),
    ):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if traces.in_text(path.name) or (
                path.is_file() and traces.in_text(path.read_bytes()[:8192].decode("latin-1"))
            ):
                counts[words] += _files_in(path)
                going.append(path)
    # what a release that was killed has left: a copy of the warehouse
    work = work_folder(settings.home)
    counts["files of an interrupted release"] = _files_in(work)
    going.append(work)
    models = _models_without_row(settings)
    counts["models"] = len(models)
    pages = "pages and Data Docs, made again by the next run"
    counts[pages] = _files_in(settings.reports_dir)
    logs = sorted(settings.home.glob("*.log*"))
    counts["lines of logs"] = sum(len(_lines_about(path, traces)[1]) for path in logs)
    _remember(settings, pending, files={words: count for words, count in counts.items() if count})
    for path in (*going, *models, settings.reports_dir):
        _remove(path)
    for path in logs:
        _remove_lines(path, traces)


def _files_in(path: Path) -> int:
    return sum(one.is_file() for one in path.rglob("*")) if path.is_dir() else int(path.exists())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _models_without_row(settings: Settings) -> list[Path]:
    """Return the files of models that have no row any more, and what an interrupted training left."""
    warehouse = _warehouse(settings)
    if not settings.models_dir.is_dir() or not warehouse.exists():
        return []
    rows = warehouse.query("select weights from fold_models")
    kept = {settings.home / weights for weights in rows["weights"].to_pylist() if weights}
    return [path for path in sorted(settings.models_dir.rglob("*")) if path.is_file() and path not in kept]


def _lines_about(path: Path, traces: Traces) -> tuple[list[bytes], list[bytes]]:
    """Return the lines of a log that stay, and those that name the patient."""
    stay, go = list[bytes](), list[bytes]()
    for line in path.read_bytes().splitlines(keepends=True):
        (go if traces.in_text(line.decode("latin-1")) else stay).append(line)
    return stay, go


def _remove_lines(path: Path, traces: Traces) -> None:
    """Remove the lines that name the patient, in the file itself: the programs that write to it have it open."""
    stay, go = _lines_about(path, traces)
    if go:
        with path.open("r+b") as file:
            file.write(b"".join(stay))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _forget_history(settings: Settings, pending: Pending) -> None:
    if pending.runs is None:
        # before anything is deleted: a row without the patient's name is only known by its run
        storage = settings.cluster.storage
        pending.runs, history = (
            plan_forgetting(settings.dagster_home, pending.traces)
            if storage is None
            else plan_forgetting_in_postgres(storage, pending.traces)
        )
        _remember(settings, pending, history=history)
    if settings.cluster.storage is not None:
        left = forget_in_postgres(settings.cluster.storage, pending.traces, set(pending.runs))
        _leave_to_administrator(settings, pending, left)
    forget_in_history(settings.dagster_home, pending.traces, set(pending.runs))


def _source(settings: Settings, pending: Pending) -> None:
    traces, wanted = pending.traces, pending.source and pending.scope is Scope.ALL
    found = find_study_files(settings.study, traces, settings.reading)
    source = {
        "readable": settings.study.is_dir(),
        "deleted": wanted,
        "files": len(found.files),
        "rows": sum(len(lines) for lines in found.rows.values()),
        "unread": _without_names(found.unread, traces),
    }
    _remember(settings, pending, source=source)
    if wanted:
        delete_study_files(settings.study, traces, settings.reading)
        still = find_study_files(settings.study, traces, settings.reading)
        pending.known["source"] |= {
            "left": len(still.lines),
            "unread": _without_names(still.unread, traces),
        }
        _save(settings, pending)


def _without_names(unread: list[str], traces: Traces) -> list[str]:
    """Return what could not be read as the certificate may say it, which stays in the home."""
    return ["a folder of the patient" if traces.in_text(name) else name for name in unread]


def _redact(settings: Settings, pending: Pending) -> None:
    def concerns(line: AuditLine) -> bool:
        return pending.traces.in_text(line.subject or "") or pending.traces.in_text(json.dumps(line.detail))

    if pending.scope is Scope.ALL:
        log = AuditLog.of(settings)
        count = sum(not line.redacted and concerns(line) for line in log.lines())
        _remember(settings, pending, audit_lines=count)
        log.redact(concerns, pending.who)


def _ask_again(settings: Settings, pending: Pending) -> None:
    warehouse = _warehouse(settings)
    if warehouse.exists():
        ask_again(warehouse, pending.traces.patient)


_Steps = tuple[tuple[str, str, Callable[[Settings, Pending], None]], ...]
_SHARING_STEPS: Final[_Steps] = (("checks", "having consent checked again", _ask_again),)
_STEPS: Final[_Steps] = (
    ("rows", "removing rows", _remove_rows),
    (_WAREHOUSE, "writing the warehouse anew", _rewrite),
    ("files", "removing files", _remove_files),
    ("history", "removing runs and events from Dagster's history", _forget_history),
    ("source", "looking at the study folder", _source),
    ("audit", "erasing the content of lines in the audit log", _redact),
)


def _record(settings: Settings, pending: Pending) -> None:
    log = AuditLog.of(settings)
    if any(line.detail.get("withdrawal") == pending.withdrawal_id for line in log.lines()):
        return
    log.record(
        pending.who,
        Action.WITHDRAWN,
        None,
        withdrawal=pending.withdrawal_id,
        patient_hash=_hash(settings, pending.traces.patient),
        scope=str(pending.scope),
    )


def _hash(settings: Settings, patient: str) -> str:
    return keyed_hash(read_register(settings).key, "patient", patient)


def _search(settings: Settings, pending: Pending) -> SearchResult:
    @contextmanager
    def opened_for_reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        if path == settings.warehouse_path:
            with Warehouse(path, settings.warehouse).read() as connection:
                yield connection
            return
        # a snapshot: one of an encrypted home has the same key
        key = configured_key(settings.warehouse) if is_encrypted(path) else None
        opened = Opened(path, read_only=True, key=key)
        try:
            yield opened.connection
        finally:
            opened.close()

    traces = pending.traces
    if pending.scope is Scope.MEDIA:
        # the answers stay, and with them the ids
        traces = Traces("", files=traces.files, samples=traces.samples)
    result = search_home(settings.home, traces, [pending_path(settings.home)], opened_for_reading)
    warehouse = _warehouse(settings)
    if warehouse.shared and warehouse.exists():
        with warehouse.read() as connection:
            for place in search_tables(connection, traces, result):
                result.found.append(f"the shared warehouse{place}")
        for place, text in texts_in_catalog(warehouse):
            if traces.in_text(text):
                result.found.append(f"the catalog of the shared warehouse, table {place}")
    return result


def _certificate(settings: Settings, pending: Pending) -> Certificate:
    known = dict(pending.known)
    source = known.get("source", {})
    # what was to be deleted and could not even be read may still be there
    whole = not source.get("deleted") or (
        source["readable"] and not source["unread"] and not source.get("left")
    )
    before, after = known.pop("bytes_before", None), known.pop("bytes_after", None)
    search = known.get("search", {})
    return Certificate(
        withdrawal_id=pending.withdrawal_id,
        patient=_hash(settings, pending.traces.patient),
        scope=str(pending.scope),
        reason=pending.reason,
        who=pending.who,
        asked_at=pending.asked_at,
        finished_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        complete=whole
        and not search.get("found")
        and not search.get("unread")
        and not known.get("server")
        and not known.get("elsewhere"),
        file_bytes=[] if None in (before, after) else [before, after],
        **known,
    )


def _finished(settings: Settings, pending: Pending, step: str, log: Log) -> None:
    pending.done.append(step)
    _save(settings, pending)
    log(f"done: {step}")


def _begin(settings: Settings, pending: Pending) -> None:
    """Write the first ``pending.json``, unless another withdrawal has begun in this moment."""
    path = pending_path(settings.home)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    first = path.with_name(f".{pending.withdrawal_id}.tmp")
    try:
        _write(first, pending)
        os.link(first, path)
    except FileExistsError:
        raise ValueError(
            "another withdrawal has just begun; repeat the command when it has finished"
        ) from None
    finally:
        first.unlink(missing_ok=True)


def _save(settings: Settings, pending: Pending) -> None:
    _write(pending_path(settings.home), pending)


def _write(path: Path, pending: Pending) -> None:
    replace_text(path, json.dumps({**asdict(pending), "scope": str(pending.scope)}))
    path.chmod(0o600)


def models_to_fit_again(settings: Settings) -> list[str]:
    """Return one line for each withdrawal whose models have not been fitted again yet: which, and why."""
    certificates = [c for c in read_certificates(settings.home) if c.folds]
    warehouse = _warehouse(settings)
    if not certificates or not warehouse.exists():
        return []
    rows = warehouse.query("select experiment, split from fold_models")
    there = {(row["experiment"], row["split"]) for row in rows.to_pylist()}
    lines = []
    for certificate in certificates:
        gone = [
            (experiment, split) for experiment, split in certificate.folds if (experiment, split) not in there
        ]
        if gone:
            experiments = ", ".join(sorted({experiment for experiment, _ in gone}))
            lines.append(
                f"{len(gone)} models ({experiments}) were deleted on {certificate.finished_at[:10]}, because a patient "
                "whom they had learned from withdrew. Fit them again with: iss train"
            )
    return lines
