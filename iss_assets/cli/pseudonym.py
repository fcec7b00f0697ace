"""``iss pseudonym``."""

from __future__ import annotations

from typing import Annotated

import typer

from iss_assets.cli.options import Home, load_settings, user_errors
from iss_assets.privacy.audit import Action, AuditLog, system_user
from iss_assets.privacy.release.pseudonyms import Pseudonyms, release_key
from iss_assets.protocol import terms


def pseudonym(
    patient: Annotated[str, typer.Argument(help="Patient id of the study.")],
    agreement: Annotated[
        str,
        typer.Option(
            "--agreement", help="Number of the agreement; 'open tier' or 'registered tier' without one."
        ),
    ],
    home: Home = None,
) -> None:
    """Print a patient's pseudonym in the releases of an agreement, to ask a recipient to delete it."""
    settings = load_settings(None, home)
    with user_errors():
        if not terms.PATIENT_ID.match(patient):
            raise ValueError("that is not a patient id: letters, digits and hyphens, at most 32")
        if not settings.release_key_path.exists():
            raise ValueError(
                f"there is no {settings.release_key_path.name} in the home: nothing was released from it"
            )
        key = release_key(settings.release_key_path)
        AuditLog.of(settings).record(system_user(), Action.PATIENT_VIEWED, patient, pseudonym_under=agreement)
        # it works after a withdrawal, too: the audit log has a keyed hash then
        typer.echo(Pseudonyms(key, agreement.strip()).patient(patient))
