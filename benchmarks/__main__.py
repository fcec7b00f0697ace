"""Run the benchmarks one after the other and print their tables: ``make bench``, or ``make bench CLIPS=DIR``.

Belongs here: which ones, in which order. Does not belong here: measuring (each benchmark is a module of its own).
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
        "warehouse",
        "scale",
        "training",
        "evaluation",
        "coverage",
    )
}
"""Those that have a small form, which the tests run for correctness."""


def main() -> int:
    """Run them all, or with ``--tiny`` only the small forms; give the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; all of them without a name")
    parser.add_argument("--clips", help="folder of real clips; quality needs one")
    parser.add_argument("--tiny", action="store_true", help="only the small forms")
    asked = parser.parse_args()
    environment = dict(os.environ)
    jobs = dict(TINY)
    if asked.clips:
        environment["ISS_REAL_CLIPS"] = asked.clips
    if not asked.tiny:
        clips = ["--clips", asked.clips] if asked.clips else []
        jobs = {"extraction": clips, "end_to_end": clips, "overheads": [], "warehouse": [], "marts": []}
        jobs |= {"incremental": [], "scale": []}
        jobs |= {"quality": []} if asked.clips else {}
        jobs |= {"training": [], "evaluation": [], "coverage": []}
    if unknown := set(asked.names) - jobs.keys():
        parser.error(f"no such benchmark here: {', '.join(sorted(unknown))}")
    failed = 0
    for name, arguments in jobs.items():
        if asked.names and name not in asked.names:
            continue
        print(f"\n## {name}\n", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
        failed += subprocess.run(command, env=environment, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
