"""The command ``iss`` as a process of its own, on a study and a home that the caller names."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ISS = str(Path(sys.executable).with_name("iss"))
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Iss:
    """Calls ``iss`` with one study, one home and some settings."""

    study: Path
    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("ISS_")}
        # recognizing speech takes longer than the rest; tests of words switch it on
        return {
            **outside,
            "ISS_WORDS__ENABLED": "false",
            "ISS_STUDY": str(self.study),
            "ISS_HOME": str(self.home),
            **self.settings,
        }

    def __call__(self, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [ISS, *arguments]
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def ok(self, *arguments: str, cwd: Path = ROOT) -> str:
        """Return the stdout of a command that must succeed."""
        done = self(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
