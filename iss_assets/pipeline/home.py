"""The home folder: create it with Dagster's settings in it, and open its Dagster instance."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dagster as dg

from iss_assets.privacy.release.leftovers import clear_leftovers
from iss_assets.settings import Settings

_DAGSTER_YAML = """\
# Written by `iss`; change iss.toml instead. Nothing is sent anywhere.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: {workers}
  pools:
    default_limit: 1
run_monitoring:
  enabled: true
  # a run that died frees its slot in a pool
  free_slots_after_run_end_seconds: 60
schedules:
  use_threads: true
  num_workers: 2
sensors:
  use_threads: true
  num_workers: 2
"""


_WORKER_YAML = """\
storage:
  custom:
    module: iss_assets.pipeline.event_log
    class: WorkerStorage
    config:
      base_dir: {base_dir}
compute_logs:
  module: iss_assets.pipeline.dagster_private
  class: NoOpComputeLogManager
"""
"""Added for the processes of `iss run`: the same files, opened once a run, and no `tail` of what a run prints.

What they print goes to the terminal and to ``workers.log``; Dagster would start two programs for every run to copy it.
"""


_WORKSPACE_YAML = """\
load_from:
  - python_module:
      module_name: iss_assets.definitions
      location_name: iss_assets
"""
"""The same as the repository's ``workspace.yaml``, so that sensors keep their memory under either."""


def prepare_home(settings: Settings) -> Path:
    """Create the home, readable by its owner only, with Dagster's settings in it, and return Dagster's home.

    Removes what a release that was killed has left, and sets the environment variables that Dagster and the code location read, for this process and its children.
    """
    home = settings.home.resolve()
    dagster_home = home / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
    clear_leftovers(home)
    common = _DAGSTER_YAML.format(workers=settings.run.workers)
    written = {
        "dagster.yaml": common,
        "worker.yaml": common + _WORKER_YAML.format(base_dir=json.dumps(str(dagster_home))),
        "workspace.yaml": _WORKSPACE_YAML,
    }
    for name, text in written.items():
        path = dagster_home / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    os.environ["DAGSTER_HOME"] = str(dagster_home)
    os.environ["ISS_HOME"] = str(home)
    os.environ["ISS_STUDY"] = str(settings.study.resolve())
    if settings.warehouse.key_file is not None:
        os.environ["ISS_WAREHOUSE__KEY_FILE"] = str(settings.warehouse.key_file.resolve())
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    return dagster_home


def open_instance(settings: Settings, *, many_runs: bool = False) -> dg.DagsterInstance:
    """Open the Dagster instance of the home; with `many_runs` for a process that executes runs itself."""
    return dg.DagsterInstance.from_config(
        str(prepare_home(settings)), "worker.yaml" if many_runs else "dagster.yaml"
    )


def without_folders(message: str) -> str:
    """Replace the paths of home and study in a message: messages are passed on, and a path can identify people."""
    settings = Settings()
    for folder, name in ((settings.home, "HOME"), (settings.study, "STUDY")):
        message = message.replace(str(folder.resolve()), name).replace(str(folder), name)
    return message
