"""The command ``iss`` on a study and a home that the caller names, as a process of its own or, where asked for, in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from iss_assets_tests.this_process import iss_in_this_process, work_in_this_process

ISS = str(Path(sys.executable).with_name("iss"))
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Iss:
    """Calls ``iss`` with one study, one home and some settings.

    `here` executes commands and workers in this process, where the process is not what is tested: a new one takes seconds to
    load what this one has loaded.
    """

    study: Path
    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    here: bool = False

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
        if self.here:
            with ExitStack() as stack:
                stack.enter_context(mock.patch.dict(os.environ, self.environment(), clear=True))
                work_in_this_process(stack.enter_context(pytest.MonkeyPatch.context()))
                return iss_in_this_process(arguments)
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
