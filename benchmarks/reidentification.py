"""Who is this? Recognize the patients of a study from their landmarks, embeddings, audio features and scores.

``python -m benchmarks.reidentification --home HOME`` measures a study, with as many videos as it has; without a home it
measures invented patients whose faces differ by a known amount, to show what the measurement can and cannot see.
`iss release` prints the same figures for what it releases.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from iss_assets.evaluation.reidentification import Recognition, recognize
from iss_assets.load import warehouse
from iss_assets.privacy.release.recognition import measure_recognition

APART = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Distance between invented patients, in standard deviations between videos of one."""


def invented(patients: int, videos: int) -> list[Recognition]:
    """Measure invented patients with 25 features that are the farther apart, the easier they are to recognize."""
    random = np.random.default_rng(0)
    who = np.repeat([f"p{n:03}" for n in range(patients)], videos)
    noise = random.normal(size=(len(who), 25))
    centers = np.repeat(random.normal(size=(patients, 25)), videos, axis=0)
    return [recognize(f"25 features, {apart:g} apart", who, apart * centers + noise) for apart in APART]


def table(found: list[Recognition]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| features | patients | videos | identified (chance) | verified (chance 0.5) | best attacker |",
        "|---|---:|---:|---|---|---|",
    ]
    for r in found:
        if r.identified is None:
            lines.append(f"| {r.features} | {r.patients} | {r.videos} | {r.note} | | |")
            continue
        identified = (
            f"{r.identified:.3f} [{_bound(r.identified_low)}, {_bound(r.identified_high)}] ({r.chance:.3f})"
        )
        verified = f"{r.verified:.3f} [{_bound(r.verified_low)}, {_bound(r.verified_high)}]"
        lines.append(
            f"| {r.features} | {r.patients} | {r.videos} | {identified} | {verified} | {r.attacker} |"
        )
    return "\n".join(lines)


def _bound(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a home, or a folder that iss release wrote")
    parser.add_argument("--tiny", action="store_true", help="few invented patients")
    options = parser.parse_args()
    print(
        table(
            measure_recognition(warehouse(options.home))
            if options.home
            else invented(*((6, 4) if options.tiny else (29, 17)))
        )
    )


if __name__ == "__main__":
    main()
