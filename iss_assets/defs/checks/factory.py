"""How checks run in Dagster: one op per stage, one read of the warehouse, one transaction for its results.

Turns rules into a ``multi_asset_check``, and findings into metadata and rows of ``check_results``. The rules are in
``iss_assets.checks``, their texts in ``protocol.catalogue``.

Every op costs a fraction of a second, so the checks of a stage share one. A stage checks the output of one step: a
finding that blocks fails the op, and with it everything downstream of any of its checks.

No ``from __future__ import annotations`` here: ``multi_asset_check`` needs the context's type, not its name.
"""

import json
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from iss_assets.checks.findings import Data, Finding, Rule, masked
from iss_assets.checks.schema import find_stored_faults, read_stored
from iss_assets.checks.stages import SQL, Stage, results_fingerprint
from iss_assets.defs.assets.common import metadata_key
from iss_assets.defs.partitions import patients_partitions
from iss_assets.defs.resources import WarehouseResource
from iss_assets.privacy.register import read_register
from iss_assets.protocol.catalogue import BROKEN_HINT, SCHEMA, WHOLE_STUDY, WITHOUT_CONTACT, CheckInfo
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.schemas.operations import CheckResults
from iss_assets.schemas.registry import BY_NAME
from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.locking import LockTimeout

Findings = list[tuple[CheckInfo, Finding]]


def make_checks(stage: Stage) -> dg.AssetChecksDefinition:
    """Return the op of a stage."""
    partitions = patients_partitions if stage.by_patient else None

    @dg.multi_asset_check(
        name=stage.name,
        specs=[check_spec(info, partitions, stage.also_needs) for info in stage.checks],
        can_subset=True,
    )
    def run_checks(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {(k.asset_key.to_user_string(), k.name) for k in context.selected_asset_check_keys}
        subject = _patient(context) if stage.by_patient else WHOLE_STUDY
        findings = evaluate(stage, subject, warehouse, selected, context.log.error)
        yield from report(
            warehouse.warehouse(),
            warehouse.settings(),
            subject,
            findings,
            context.run.run_id,
            context.log.error,
        )

    return run_checks


def check_spec(
    info: CheckInfo, partitions: dg.PartitionsDefinition | None = None, also_needs: Sequence[str] = ()
) -> dg.AssetCheckSpec:
    """Return the specification of a check in the catalogue.

    Parameters
    ----------
    info : CheckInfo
        The check.
    partitions : PartitionsDefinition, optional
        Partitions of its asset, if it looks at one patient at a time.
    also_needs : sequence of str
        Further assets that have to be materialized before it runs.
    """
    with warnings.catch_warnings():
        # partitions on a check are marked "preview" in Dagster 1.13; a test asserts that results land on them
        warnings.simplefilter("ignore")
        return dg.AssetCheckSpec(
            info.name,
            asset=info.asset,
            description=f"{info.title}. Source: {info.source}.",
            blocking=info.blocking,
            additional_deps=list(also_needs),
            metadata={"severity": info.severity, "source": info.source},
            partitions_def=partitions,
        )


def _patient(context: dg.AssetCheckExecutionContext) -> str:
    if not context.has_partition_key:
        # for several partitions at once, Dagster 1.13 stores the result on none of them
        raise dg.Failure(
            "Checks run for one patient at a time: choose one partition, or start a run for each."
        )
    return context.partition_key


def evaluate(
    stage: Stage,
    subject: str,
    resource: WarehouseResource,
    selected: set[tuple[str, str]],
    log: Callable[[str], None],
) -> Findings:
    """Run the selected checks of a stage; one that raises becomes a failed check and does not stop the others.

    Parameters
    ----------
    stage : Stage
        Rules and queries.
    subject : str
        Patient id, or ``WHOLE_STUDY``.
    resource : WarehouseResource
        The warehouse and the settings.
    selected : set of (str, str)
        Asset and name of each check to run.
    log : callable
        Called with a sentence about each check that raised.
    """
    settings, checks = resource.settings(), [c for c in stage.checks if (c.asset, c.name) in selected]
    where = {"patient_id": subject} if stage.by_patient else {}
    stored: dict[str, Any] = {}
    contact: Any = True
    try:
        with resource.warehouse().read() as connection:
            if any(check.asks_patient for check in checks):
                contact = _try(partial(_wants_contact, connection, subject))
            for check in checks:
                if check.name == SCHEMA:
                    stored[check.asset] = _try(partial(read_stored, connection, BY_NAME[check.asset], where))
            named = any(check.name != SCHEMA for check in checks)
            data = _try(lambda: _read(connection, stage, subject, settings)) if named else {}
    except Exception as error:
        stored, data = dict.fromkeys(stage.tables, error), error
    findings = []
    for check in checks:
        if check.name == SCHEMA:
            found = _and_then(stored[check.asset], partial(find_stored_faults, BY_NAME[check.asset]))
        else:
            rule = stage.rules[check.asset][check.name]
            found = _and_then(data, partial(_apply, rule, settings))
        if isinstance(found, Exception):
            log(f"check {check.name} on {check.asset} could not run: {describe(found)}")
            found = broken(found)
        elif not found.passed and check.asks_patient and contact is not True:
            found = replace(found, numbers={**found.numbers, WITHOUT_CONTACT: 1})
        findings.append((check, found))
    return findings


def _wants_contact(connection: Any, patient: str) -> bool:
    """Say whether the study team may talk to a patient: not after that was withdrawn, or asked for and not given."""
    row = connection.execute(
        "select state from consent where patient_id = ? and scope = ?", [patient, str(Scope.CONTACT)]
    ).fetchone()
    return row is None or row[0] == ConsentState.GIVEN


def _read(connection: Any, stage: Stage, subject: str, settings: Settings) -> Data:
    data: dict[str, list[dict[str, Any]]] = {}
    if stage.asks_register:
        scopes = read_register(settings).carried_out(subject)
        data["register"] = [{"scope": scope} for scope in sorted(scopes)]
    for name in stage.queries:
        sql = (SQL / f"{name}.sql").read_text("utf-8")
        rows = connection.execute(sql, {"patient": subject}).to_arrow_table().to_pylist()
        data[name] = [{column: _masked(column, value) for column, value in row.items()} for row in rows]
    return data


def _masked(column: str, value: Any) -> Any:
    if isinstance(value, str) and column != "measures":
        return masked(value)
    return [masked(word) for word in value] if isinstance(value, list) else value


def _apply(rule: Rule, settings: Settings, rows: Data) -> Finding:
    return rule(rows, settings)


def _try(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return error


def _and_then(value: Any, work: Callable[[Any], Any]) -> Any:
    return value if isinstance(value, Exception) else _try(lambda: work(value))


def describe(error: Exception) -> str:
    """Return what failed and where; the message only of errors that never quote a value."""
    if isinstance(error, WarehouseError | LockTimeout):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    at = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}"


def broken(error: Exception) -> Finding:
    """Return the finding of a check that could not run."""
    return Finding(False, (), {"error": describe(error)}, "the check can run", "ERROR", broken=True)


def report(
    warehouse: Warehouse,
    settings: Settings,
    subject: str,
    findings: Findings,
    run_id: str,
    log: Callable[[str], None],
) -> Iterator[dg.AssetCheckResult]:
    """Store the findings in ``check_results``, in one transaction, and yield them to Dagster.

    Parameters
    ----------
    warehouse : Warehouse
        Where ``check_results`` is.
    settings : Settings
        For the fingerprint of the results.
    subject : str
        Patient id, or ``WHOLE_STUDY``.
    findings : list of (CheckInfo, Finding)
        Each check with its finding.
    run_id : str
        The run that made them.
    log : callable
        Called with a sentence if the findings cannot be stored.

    Raises
    ------
    WarehouseError
        If the findings cannot be stored and some check could run.
    """
    try:
        keep(warehouse, settings, subject, findings, run_id)
    except WarehouseError as error:
        # a warehouse of another version: Dagster still gets the findings, which say so
        if not all(found.broken for _, found in findings):
            raise
        log(f"the results are not in check_results: {error}")
    for check, found in findings:
        yield result(check, found, subject)


def keep(warehouse: Warehouse, settings: Settings, subject: str, findings: Findings, run_id: str) -> None:
    """Replace the previous findings of the same checks, in one transaction."""
    now, fingerprint = datetime.now(UTC), results_fingerprint(settings)
    rows = CheckResults.check_rows(
        CheckResults.from_rows(
            [
                {
                    "patient_id": subject,
                    "asset": check.asset,
                    "check_name": check.name,
                    "passed": found.passed,
                    "severity": found.severity or check.severity,
                    "affected": list(found.affected),
                    "numbers": json.dumps(found.numbers, default=str),
                    "threshold": found.threshold,
                    "hint": hint(check, found, subject),
                    "fingerprint": fingerprint,
                    "run_id": run_id,
                    "evaluated_at": now,
                }
                for check, found in findings
            ]
        )
    )
    with warehouse.write(threads=1) as writer:
        for asset in {check.asset for check, _ in findings}:
            names = [check.name for check, _ in findings if check.asset == asset]
            writer.execute(
                "delete from check_results where patient_id = ? and asset = ? and list_contains(?, check_name)",
                [subject, asset, names],
            )
        writer.append(CheckResults, rows)


def result(check: CheckInfo, found: Finding, subject: str) -> dg.AssetCheckResult:
    """Return a finding as Dagster's result."""
    numbers = {
        metadata_key(name): dg.MetadataValue.json(value) if isinstance(value, dict | list | tuple) else value
        for name, value in found.numbers.items()
    }
    advice = hint(check, found, subject)
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(check.asset),
        check_name=check.name,
        passed=found.passed,
        severity=dg.AssetCheckSeverity[found.severity or check.severity],
        description=check.title if not found.passed else None,
        metadata={
            **({"what_to_do": advice} if advice else {}),
            **numbers,
            **({"ids": dg.MetadataValue.json(list(found.affected))} if found.affected else {}),
            "threshold": found.threshold,
            "source": check.source,
        },
    )


def hint(check: CheckInfo, found: Finding, subject: str) -> str | None:
    """Return what to do about a finding; None if it passed."""
    if found.passed:
        return None
    if found.broken:
        return BROKEN_HINT
    return check.advise(subject, lost=found.lost, contact=WITHOUT_CONTACT not in found.numbers)
