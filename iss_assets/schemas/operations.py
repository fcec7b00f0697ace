"""Check results, alerts and the ledger of extractions."""

from __future__ import annotations

from iss_assets.protocol import terms
from iss_assets.schemas.base import Table, column


class CheckResults(Table):
    """One check's last result on one patient, or on the whole study."""

    __table__ = "check_results"
    __key__ = ("patient_id", "asset", "check_name")
    __partition__ = ("patient_id", "asset")

    patient_id: object = column(
        "VARCHAR",
        "Patient id; `*` for the whole study.",
        str_matches=rf"^\*$|{terms.PATIENT_ID.pattern}",
    )
    asset: object = column("VARCHAR", "Asset, which is also the table, that the check is on.")
    check_name: object = column("VARCHAR", "Name of the check; docs/checks.md says what it looks for.")
    passed: object = column("BOOLEAN", "Whether all is well.")
    severity: object = column(
        "VARCHAR", "WARN, or ERROR where nothing can be used before it is fixed.", isin=("WARN", "ERROR")
    )
    affected: object = column("VARCHAR[]", "Video or submission ids at fault.")
    numbers: object = column("VARCHAR", "What was counted and measured, as JSON: name to value.")
    threshold: object = column("VARCHAR", "What the numbers are held against, in words.")
    hint: object = column("VARCHAR", "What to do about it, one sentence; empty when passed.", nullable=True)
    fingerprint: object = column("VARCHAR", "Fingerprint of the check's settings and code.")
    run_id: object = column("VARCHAR", "Dagster's run.")
    evaluated_at: object = column("TIMESTAMP WITH TIME ZONE", "When.")


class Alerts(Table):
    """One issue from when it was raised until it was resolved or closed, and who was notified."""

    __table__ = "alerts"
    __key__ = ("alert_id",)
    __partition__ = ("alert_id",)

    alert_id: object = column("VARCHAR", "Hash of patient, asset, check and the moment it was raised.")
    run_id: object = column("VARCHAR", "Dagster's run that last raised, changed or resolved it.")
    patient_id: object = column(
        "VARCHAR",
        "Patient id; `*` for the whole study.",
        str_matches=rf"^\*$|{terms.PATIENT_ID.pattern}",
    )
    asset: object = column("VARCHAR", "Asset that was checked; step or job that failed.")
    check_name: object = column("VARCHAR", "Check that failed; `run_failed` for a run.")
    severity: object = column("VARCHAR", "WARN or ERROR.", isin=("WARN", "ERROR"))
    status: object = column(
        "VARCHAR",
        "raised; resolved; closed: no run can look at it any more.",
        isin=("raised", "resolved", "closed"),
    )
    reason: object = column(
        "VARCHAR", "Why it was closed.", nullable=True, isin=("check removed", "not enrolled any more")
    )
    affected: object = column("VARCHAR[]", "Video or submission ids at fault; for a run, classes of errors.")
    numbers: object = column("VARCHAR", "What was counted, as JSON: name to number.")
    content: object = column("VARCHAR", "Hash of status, severity and ids: a new one is sent.")
    first_seen: object = column("TIMESTAMP WITH TIME ZONE", "When it was raised.")
    last_seen: object = column("TIMESTAMP WITH TIME ZONE", "When it was looked at last.")
    changed_at: object = column("TIMESTAMP WITH TIME ZONE", "When status, severity or ids changed last.")
    delivery: object = column(
        "VARCHAR",
        "waiting: a message is still to be sent; delivered; given_up; not_needed: over before a message was sent.",
        isin=("waiting", "delivered", "given_up", "not_needed"),
    )
    told_at: object = column(
        "TIMESTAMP WITH TIME ZONE", "When the last recipient was notified.", nullable=True
    )
    told_to: object = column("VARCHAR[]", "Hashes of the addresses that were notified of it.")
    taken_by: object = column("VARCHAR[]", "Marks of the addresses that have its present content.")
    attempts: object = column("INTEGER", "Rounds in which somebody did not take the present content.", ge=0)
    next_try_at: object = column("TIMESTAMP WITH TIME ZONE", "Not tried again before.", nullable=True)
    message_keys: object = column(
        "VARCHAR",
        "The last message with the present content that an address did not accept, as JSON: hash of the address to key.",
        nullable=True,
    )


class Extractions(Table):
    """One table's last rows of one subject, a video, fold or patient: the ledger that says what is current."""

    __table__ = "extractions"
    __key__ = ("patient_id", "subject", "table_name")
    __partition__ = ("patient_id", "table_name")

    patient_id: object = column("VARCHAR", "Patient id; `*` for a table about the whole study.")
    subject: object = column(
        "VARCHAR",
        "What the rows were made from: a video id; a fold, as `fusion_1|03`; `*` for everything of the patient or study.",
    )
    table_name: object = column("VARCHAR", "Table.")
    fingerprint: object = column("VARCHAR", "Hash of the inputs, settings and code version.")
    rows: object = column("BIGINT", "Rows written.", ge=0)
    made_at: object = column("TIMESTAMP WITH TIME ZONE", "When.")
    problem: object = column(
        "VARCHAR",
        "What was unusual about the file, found on the way: the part of `videos.problem` that came from here.",
        nullable=True,
    )
