"""What a patient may consent to, and what counts when consent is withdrawn: the vocabulary of ``consent.csv``."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """What consent is given to."""

    RESEARCH = "research"
    """The study itself: models are trained on the patient's data and tested on them."""
    SHARE_FEATURES = "share_features"
    """Numbers computed from the patient's videos may be given to others."""
    SHARE_MEDIA = "share_media"
    """Pictures and sound of the patient may be given to others."""
    CONTACT = "contact"
    """The study team may call or write to the patient."""


class ConsentState(StrEnum):
    """What counts for a patient and a scope."""

    GIVEN = "given"
    WITHDRAWN = "withdrawn"
    NOT_GIVEN = "not_given"
    """There is a row without a usable day on which consent was given."""


CARRIED_OUT: Final = (Scope.RESEARCH, Scope.SHARE_FEATURES, Scope.SHARE_MEDIA)
"""Scopes whose withdrawal a person carries out; one from contact holds as soon as it is read."""

NO_CONTACT: Final = (
    "Do not call or remind patient {patient}: consent to be contacted has been withdrawn, or was not given."
)
"""What to do instead of talking to a patient who does not want to be contacted."""

SCOPES_IN_WORDS: Final = {
    Scope.RESEARCH: "research",
    Scope.SHARE_FEATURES: "sharing features",
    Scope.SHARE_MEDIA: "sharing pictures and sound",
    Scope.CONTACT: "contact",
}
"""How pages and messages call the scopes."""


def left_out_words(patients: Collection[str], *, ids: bool = True) -> str:
    """Say how many patients are left out because they have not consented and, with `ids`, who.

    Examples
    --------
    >>> left_out_words(["0007", "0012"])
    'left out for want of consent: 2 patients (0007, 0012)'
    """
    number = f"{len(patients)} patient{'' if len(patients) == 1 else 's'}"
    return f"left out for want of consent: {number}" + (
        f" ({', '.join(sorted(patients))})" if patients and ids else ""
    )
