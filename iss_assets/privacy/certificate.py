"""The certificate of a withdrawal: what was removed where, and that a search found nothing left. JSON and a page.

It identifies the patient by the keyed hash only, so that it can be kept, and shown to whoever asks.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from iss_assets.atomic import replace_text
from iss_assets.intake.withdrawn import FOLDER
from iss_assets.reports.templating import Banner, Frame, write_page

SCOPES = {
    "all": "Everything",
    "media": "Faces and sound, and what was made from them; the answers stay",
    "sharing": "Passing on: releases, and exports with faces or sound, leave the patient out",
}
"""What a withdrawal covers, in words."""


@dataclass
class Certificate:
    """What a withdrawal did.

    Attributes
    ----------
    withdrawal_id : str
        A random id, also in the audit log.
    patient : str
        Keyed hash of the patient's id.
    scope, reason, who : str
        What was withdrawn, why, and who carried it out.
    asked_at, finished_at : str
        Begin and end, UTC, ISO 8601, to the microsecond: two may end within a second, and their order matters.
    rows, made_again, files, history : dict
        What was removed: rows of the patient; rows made from everybody's data, which the next runs make again; files in
        the home; records of Dagster's history.
    folds : list
        Experiment and split of models that had learned from the patient.
    file_bytes : list of int
        Size of the warehouse before and after.
    audit_lines : int
        Lines of the audit log whose content was erased.
    source : dict
        What the study folder held, in numbers, and whether it was deleted.
    copies : list of dict
        Snapshots, exports and releases in the audit log, which a person has to deal with.
    search : dict
        What the search through every byte looked for, read, and found.
    server : list of str
        What is left on a database server, which only its administrator can remove, and how.
    elsewhere : list of str
        Other homes on the shared warehouse, which have to remove what they keep besides it.
    complete : bool
        Whether nothing is left there, the search found nothing and could read everything, and all that was to be deleted in the study folder was.
    """

    withdrawal_id: str
    patient: str
    scope: str
    reason: str
    who: str
    asked_at: str
    finished_at: str
    rows: dict[str, int] = field(default_factory=dict)
    made_again: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    history: dict[str, int] = field(default_factory=dict)
    folds: list[list[Any]] = field(default_factory=list)
    file_bytes: list[int] = field(default_factory=list)
    audit_lines: int = 0
    source: dict[str, Any] = field(default_factory=dict)
    copies: list[dict[str, Any]] = field(default_factory=list)
    search: dict[str, Any] = field(default_factory=dict)
    server: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def remains(self) -> list[str]:
        """One line for each place where something was found, is left, or could not be read."""
        lines = [*self.search.get("found", ()), *self.search.get("unread", ()), *self.server]
        lines += [
            f"{home}: its `iss serve` removes it within minutes, or run `iss run` there; then repeat the command"
            for home in self.elsewhere
        ]
        if self.source.get("deleted"):
            if not self.source["readable"]:
                lines.append("the study folder")
            lines += [f"{name}, in the study folder" for name in self.source["unread"]]
            if left := self.source.get("left"):
                lines.append(f"{left} files or rows in the study folder")
        return lines


def certificate_path(home: Path, certificate: Certificate) -> Path:
    """Return the path of a certificate's page; its JSON has the same name."""
    return home / FOLDER / f"withdrawal-{certificate.asked_at[:10]}-{certificate.withdrawal_id[:8]}.html"


def write_certificate(home: Path, certificate: Certificate) -> Path:
    """Write both files and return the page's path."""
    page = certificate_path(home, certificate)
    path = page.with_suffix(".json")
    replace_text(path, json.dumps(asdict(certificate), indent=2) + "\n")
    path.chmod(0o600)
    frame = Frame(
        "Certificate of a withdrawal",
        "For the ethics board and the study's files",
        banners=[]
        if certificate.complete
        else [
            Banner("Not complete.", "Something was found, is left, or could not be read; see below.", "bad")
        ],
    )
    write_page("withdrawal.html.jinja", frame, {"c": certificate, "scopes": SCOPES, "contents": []}, page)
    page.chmod(0o600)
    return page


def read_certificates(home: Path) -> list[Certificate]:
    """Return the certificates of a home, oldest first; a file that is not one is left out."""
    found = []
    for path in (home / FOLDER).glob("withdrawal-*.json"):
        try:
            found.append(Certificate(**json.loads(path.read_text("utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda certificate: (certificate.finished_at, certificate.asked_at))
