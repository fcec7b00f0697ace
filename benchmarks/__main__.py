"""Run the benchmarks in sequence and print their tables: ``make bench``, or ``make bench CLIPS=DIR``.

Each benchmark is a separate module.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

TINY = {
    name: ["--tiny"]
    for name in (
        "extraction",
        "end_to_end",
        "overheads",
        "features",
        "words",
        "warehouse",
        "encryption",
        "scale",
        "training",
        "evaluation",
        "coverage",
        "check_ins",
        "check_in_pictures",
        "reidentification",
        "web_application",
    )
}
"""Benchmarks with a small version, which the tests run to check correctness."""


def jobs(clips: str | None, tiny: bool) -> dict[str, list[str]]:
    """Return the benchmarks to run with their arguments; all of them, if there are real clips."""
    if tiny:
        return TINY
    clip_arguments = ["--clips", clips] if clips else []
    chosen = dict.fromkeys(("extraction", "end_to_end", "words"), clip_arguments)
    names = [
        "overheads",
        "warehouse",
        "marts",
        "encryption",
        "cluster",
        "lake_faults",
        "shared_writers",
        "history_connections",
        "features",
        "incremental",
        "scale",
        "damage",
    ]
    names += ["quality", "identity"] if clips else []
    names += ["training", "evaluation", "coverage", "check_ins", "check_in_pictures"]
    names += ["reidentification", "web_application"]
    return chosen | {name: [] for name in names}


def main() -> int:
    """Run all benchmarks, or only the small versions with ``--tiny``; return the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run; all by default")
    parser.add_argument("--clips", help="folder of real clips, required by quality and identity")
    parser.add_argument("--tiny", action="store_true", help="run only the small versions")
    options = parser.parse_args()
    environment = dict(os.environ)
    if options.clips:
        environment["ISS_REAL_CLIPS"] = options.clips
    chosen = jobs(options.clips, options.tiny)
    if unknown := set(options.names) - chosen.keys():
        parser.error(f"unknown benchmark: {', '.join(sorted(unknown))}")
    failed = 0
    for name, arguments in chosen.items():
        if options.names and name not in options.names:
            continue
        print(f"\n## {name}\n", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
        failed += subprocess.run(command, env=environment, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
