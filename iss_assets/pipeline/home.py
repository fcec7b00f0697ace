"""The home folder: create it with Dagster's settings in it, and open its Dagster instance."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from iss_assets.atomic import replace_text
from iss_assets.pipeline.cluster import (
    BROKER_VARIABLE,
    STORAGE_VARIABLE,
    ClusterProblem,
    require_one_host,
    require_packages,
    storage_away,
    use_scratch,
)
from iss_assets.privacy.release.leftovers import clear_leftovers
from iss_assets.settings import Settings, storage_address

_DAGSTER_YAML = """\
# Written by `iss`; change iss.toml instead. Nothing is sent anywhere.
telemetry:
  enabled: false
nux:
  enabled: false
schedules:
  use_threads: true
  num_workers: 2
sensors:
  use_threads: true
  num_workers: 2
"""


_ONE_MACHINE_YAML = """\
concurrency:
  runs:
    max_concurrent_runs: {workers}
  pools:
    default_limit: 1
run_monitoring:
  enabled: true
  # a run that died frees its slot in a pool
  free_slots_after_run_end_seconds: 60
"""


_FILES_YAML = """\
storage:
  custom:
    module: iss_assets.pipeline.event_log
    class: {storage}
    config:
      base_dir:
        env: DAGSTER_HOME
"""
"""Added where Dagster's history is in files. The variable and not the folder, so that a home can be moved."""


_NO_OUTPUT_YAML = """\
compute_logs:
  module: iss_assets.pipeline.dagster_private
  class: NoOpComputeLogManager
"""
"""Added for the processes of `iss run`: no `tail` of what a run prints.

It goes to the terminal and to ``workers.log``; Dagster would start two programs for every run to copy it.
"""


_STORAGE_CREATED = "storage.created"
"""Says that Dagster's databases in this home are complete."""


_POSTGRES_YAML = """\
storage:
  custom:
    module: iss_assets.pipeline.pooled_storage
    class: PooledPostgresStorage
    config:
      postgres_url:
        env: {storage}
"""


_CLUSTER_YAML = """\
concurrency:
  runs:
    max_concurrent_runs: {runs}
    tag_concurrency_limits:
      # a patient who was requested twice is processed once at a time
      - key: dagster/partition
        value:
          applyLimitPerUniqueValue: true
        limit: 1
  pools:
    default_limit: {trainings}
run_queue:
  # what Dagster says of code that cannot be reached, the launcher says of a broker that does not answer: runs stay in the
  # queue, and one of them is tried again every ten seconds
  max_user_code_failure_retries: 1000000
  user_code_failure_retry_delay: 10
run_launcher:
  module: iss_assets.pipeline.cluster_launcher
  class: ClusterLauncher
  config:
    broker:
      env: {broker}
    silent_s: {silent_s}
run_monitoring:
  enabled: true
  poll_interval_seconds: 5
  # ten years: runs wait for a worker as long as there is none, and `ClusterLauncher.lost_runs` finds those that nobody will
  # start. With 0, each of them is an error in the daemon's log at every look
  start_timeout_seconds: 315360000
  cancel_timeout_seconds: 30
  max_resume_run_attempts: 0
  free_slots_after_run_end_seconds: 60
run_retries:
  enabled: true
  max_retries: {retries}
  # errors are the study sensor's to retry, which knows those that would come again
  retry_on_asset_or_op_failure: false
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

    Raises
    ------
    ClusterProblem
        If the settings name a cluster whose packages are not installed, or several hosts share a warehouse file.
    """
    cluster = settings.cluster
    require_packages(settings)
    home = settings.home.resolve()
    dagster_home = home / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
    use_scratch(settings)
    require_one_host(settings)
    clear_leftovers(home)
    many_runs, dagster_yaml = _yaml(settings)
    written = {
        "dagster.yaml": dagster_yaml,
        "worker.yaml": many_runs,
        "workspace.yaml": _WORKSPACE_YAML,
    }
    for name, text in written.items():
        path = dagster_home / name
        if not path.exists() or path.read_text("utf-8") != text:
            replace_text(path, text)
    os.environ["DAGSTER_HOME"] = str(dagster_home)
    os.environ["ISS_HOME"] = str(home)
    os.environ["ISS_STUDY"] = str(settings.study.resolve())
    if settings.warehouse.key_file is not None:
        os.environ["ISS_WAREHOUSE__KEY_FILE"] = str(settings.warehouse.key_file.resolve())
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    if cluster.storage is not None:
        os.environ[STORAGE_VARIABLE] = storage_address(cluster.storage)
    if cluster.broker is not None:
        os.environ[BROKER_VARIABLE] = cluster.broker.get_secret_value()
    if cluster.storage is None:
        _create_storage(dagster_home)
    return dagster_home


def _create_storage(dagster_home: Path) -> None:
    """Create Dagster's databases before a second process opens them.

    Dagster creates them as it opens them, without a lock: of two processes that begin with a new home at once, such as
    the web application and its daemon, one ended with "table already exists".
    """
    created = dagster_home / _STORAGE_CREATED
    if created.exists():
        return
    with open(dagster_home / "storage.lock", "ab", opener=lambda p, f: os.open(p, f, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not created.exists():
            with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
                # each is created where it is first asked for
                _ = instance.run_storage, instance.event_log_storage, instance.schedule_storage
            created.touch(0o600)


def _yaml(settings: Settings) -> tuple[str, str]:
    """Return Dagster's settings for a process that executes runs of `iss run` itself, and for all others."""
    cluster = settings.cluster
    if cluster.broker is not None:
        shared = _CLUSTER_YAML.format(
            **cluster.model_dump(include={"runs", "trainings", "silent_s", "retries"}), broker=BROKER_VARIABLE
        )
    else:
        shared = _ONE_MACHINE_YAML.format(workers=settings.run.workers)
    common = _DAGSTER_YAML + shared
    if cluster.storage is not None:
        postgres = common + _POSTGRES_YAML.format(storage=STORAGE_VARIABLE)
        return postgres + _NO_OUTPUT_YAML, postgres
    # the processes of `iss run` open the same files once a run
    worker = common + _FILES_YAML.format(storage="WorkerStorage") + _NO_OUTPUT_YAML
    return worker, common + _FILES_YAML.format(storage="HomeStorage")


_CREATION_S: Final = 20
_BEING_CREATED: Final = frozenset({"42P01", "42P07", "42703", "42710", "23505"})
"""What Postgres says of tables that another process has begun to create: a table, type or row that exists already, or one that
does not yet (its manual, appendix A). Dagster itself waits for the first kind, for a second."""


def open_instance(settings: Settings, *, many_runs: bool = False) -> dg.DagsterInstance:
    """Open the Dagster instance of the home; with `many_runs` for a process that executes runs itself.

    Raises
    ------
    ClusterProblem
        If the settings name a database that does not answer.
    """
    place = str(prepare_home(settings)), "worker.yaml" if many_runs else "dagster.yaml"
    if settings.cluster.storage is None:
        return dg.DagsterInstance.from_config(*place)
    # a package of the extra
    from dagster_postgres.utils import DagsterPostgresException

    for seconds_left in range(_CREATION_S, -1, -1):
        try:
            return dg.DagsterInstance.from_config(*place)
        except (DagsterPostgresException, SQLAlchemyError) as error:
            # in a new database, another process may be creating the tables just now
            cause = getattr(error, "orig", None)
            if not seconds_left or getattr(cause, "pgcode", None) not in _BEING_CREATED:
                raise ClusterProblem(storage_away(error)) from None
        time.sleep(1)
    raise AssertionError("the last attempt returns or raises")


def without_folders(message: str) -> str:
    """Replace the paths of home and study in a message: messages are passed on, and a path can identify people."""
    settings = Settings()
    for folder, name in ((settings.home, "HOME"), (settings.study, "STUDY")):
        message = message.replace(str(folder.resolve()), name).replace(str(folder), name)
    return message
