"""What is said of a claim: one rule for every model, canary, group of predictors and way to act."""

from __future__ import annotations

YES, NO, NOT_SHOWN, CANNOT = "yes", "no", "not shown", "cannot be shown"
VERDICTS = (YES, NO, NOT_SHOWN, CANNOT)
"""Supported; points the other way; in favor, but it may be chance; nothing could have been shown with so few patients."""


def verdict(
    estimate: float | None, low: float | None, p_holm: float, p_least_holm: float, alpha: float
) -> str:
    """Decide whether a claim is supported: in favor, its interval above 0, and p (Holm) at most alpha.

    Parameters
    ----------
    estimate, low : float or None
        What was found, and the lower end of its interval over patients. An interval that is missing does not stand against the
        claim: it is missing where all patients are alike, which is as clear as a result can be, and p decides; and where there
        is one patient, whose p is 1.
    p_holm, p_least_holm : float
        By flipping the signs of patients' values, and the smallest that it could have been; after Holm.
    alpha : float
        Level of all claims together.

    Examples
    --------
    >>> [verdict(1.0, low, 0.01, 0.001, 0.05) for low in (0.2, -0.1, None)]
    ['yes', 'not shown', 'yes']
    """
    if estimate is None or estimate <= 1e-12:
        return NO
    if p_holm <= alpha and (low is None or low > 0):
        return YES
    return CANNOT if p_least_holm > alpha else NOT_SHOWN
