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
    asset: object = column("VARCHAR", "Asset (also the name of the table) that the check looks at.")
    check_name: object = column("VARCHAR", "Name of the check; docs/checks.md says what a failure means.")
    passed: object = column("BOOLEAN", "Whether the check passed.")
    severity: object = column(
        "VARCHAR", "WARN, or ERROR where nothing can be used before it is fixed.", isin=("WARN", "ERROR")
    )
    affected: object = column("VARCHAR[]", "Video or submission ids affected.")
    numbers: object = column("VARCHAR", "Counts and measures, as JSON: name to value.")
    threshold: object = column("VARCHAR", "What the numbers are compared with, in words.")
    hint: object = column("VARCHAR", "What to do about it; empty when passed.", nullable=True)
    fingerprint: object = column("VARCHAR", "Fingerprint of the check's settings and code.")
    run_id: object = column("VARCHAR", "Dagster's run.")
    evaluated_at: object = column("TIMESTAMP WITH TIME ZONE", "Time of the check.")


class Alerts(Table):
    """One issue from when it was raised until it was resolved or closed, and who was notified."""

    __table__ = "alerts"
    __key__ = ("alert_id",)
    __partition__ = ("alert_id",)

    alert_id: object = column("VARCHAR", "Hash of patient, asset, check and the time it was raised.")
    run_id: object = column(
        "VARCHAR", "Dagster's run that last raised, changed or resolved it; empty where no run did."
    )
    patient_id: object = column(
        "VARCHAR",
        "Patient id; `*` for the whole study.",
        str_matches=rf"^\*$|{terms.PATIENT_ID.pattern}",
    )
    asset: object = column("VARCHAR", "Asset that was checked, step or job that failed, or `daemon`.")
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
    affected: object = column("VARCHAR[]", "Video or submission ids affected; for a run, classes of errors.")
    numbers: object = column("VARCHAR", "Counts, as JSON: name to number.")
    content: object = column("VARCHAR", "Hash of status, severity and ids: a new one is sent.")
    first_seen: object = column("TIMESTAMP WITH TIME ZONE", "When it was raised.")
    last_seen: object = column("TIMESTAMP WITH TIME ZONE", "When it was last checked.")
    changed_at: object = column("TIMESTAMP WITH TIME ZONE", "When status, severity or ids last changed.")
    delivery: object = column(
        "VARCHAR",
        "waiting: a message is still to be sent; delivered; given_up; not_needed: over before a message was sent.",
        isin=("waiting", "delivered", "given_up", "not_needed"),
    )
    told_at: object = column(
        "TIMESTAMP WITH TIME ZONE", "When the last recipient was notified.", nullable=True
    )
    told_to: object = column("VARCHAR[]", "Hashes of the addresses that were notified of it.")
    taken_by: object = column("VARCHAR[]", "Hashes of the addresses that have its current content.")
    attempts: object = column(
        "INTEGER", "Rounds in which an address did not accept the current content.", ge=0
    )
    next_try_at: object = column(
        "TIMESTAMP WITH TIME ZONE", "Earliest time of the next attempt.", nullable=True
    )
    message_keys: object = column(
        "VARCHAR",
        "The last message with the current content that an address did not accept, as JSON: hash of the address to key.",
        nullable=True,
    )


class Extractions(Table):
    """One table's last rows of one subject, a video, fold or patient: the ledger that says what is current."""

    __table__ = "extractions"
    __key__ = ("patient_id", "subject", "table_name")
    __partition__ = ("patient_id", "table_name")

    patient_id: object = column("VARCHAR", "Patient id; `*` for a study-wide table.")
    subject: object = column(
        "VARCHAR",
        "What the rows were made from: a video id; a fold, as `fusion_1|03`; `*` for everything of the patient or study.",
    )
    table_name: object = column("VARCHAR", "Table.")
    fingerprint: object = column("VARCHAR", "Hash of the inputs, settings and code version.")
    rows: object = column("BIGINT", "Rows written.", ge=0)
    made_at: object = column("TIMESTAMP WITH TIME ZONE", "Time of the write.")
    problem: object = column(
        "VARCHAR",
        "What was unusual about the file: the part of `videos.problem` that this extraction found.",
        nullable=True,
    )
