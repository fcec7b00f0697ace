"""What lies in ``deploy/``: files for programs that are not installed here are checked against their schemas; the rest is run.

No container engine and no Kubernetes is needed, and none is used: that an image can be built, and that a cluster accepts the
values, is tested by nobody here, as ``deploy/README.md`` says.
"""

from __future__ import annotations

import configparser
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster_k8s import K8sRunLauncher
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client as kubernetes

from iss_assets.cli import main
from iss_assets.server.children import end_with_parent
from iss_assets.settings import Section, Settings, WarehouseSettings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.defs.test_backfill import VIDEOS, wait_for, write_study
from iss_assets_tests.postgres import PostgresServer, free_port
from iss_assets_tests.redis_server import NO_REDIS

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = sorted(DEPLOY.glob("compose*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
TEXTS = sorted(path for path in DEPLOY.rglob("*") if path.is_file())


def _assignments(path: Path) -> dict[str, str]:
    """Return the variables of a file like ``.env``."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines)}


def _compose(path: Path) -> dict[str, Any]:
    """Return a Compose file with the variables of ``env.example`` in their places."""
    given = _assignments(DEPLOY / "env.example")
    filled = re.sub(
        r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda found: given[found.group(1)], path.read_text("utf-8")
    )
    return dict(yaml.safe_load(filled))


def _services() -> Iterator[Any]:
    for path in COMPOSE:
        for name, service in _compose(path)["services"].items():
            yield pytest.param(path, service, id=f"{path.name}:{name}")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``make-secrets.sh`` makes."""
    folder = tmp_path_factory.mktemp("made") / "secrets"
    subprocess.run([DEPLOY / "make-secrets.sh", folder], check=True, env={"PATH": "/usr/bin:/bin"})
    return folder


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_files_fit_the_schema_of_compose(path: Path) -> None:
    vendor = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((vendor / "compose-spec.json").read_text("utf-8"))
    jsonschema.validate(_compose(path), schema)
    with pytest.raises(jsonschema.ValidationError, match="ports_"):
        jsonschema.validate({"services": {"web": {"image": "x", "ports_": []}}}, schema)


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_whatever_a_compose_file_refers_to_exists(path: Path, secrets: Path) -> None:
    # the others are read after compose.yaml, and add to it
    parts = [_compose(each) for each in dict.fromkeys((DEPLOY / "compose.yaml", path))]
    services, volumes, networks, known = (
        {name for part in parts for name in part.get(key) or {}}
        for key in ("services", "volumes", "networks", "secrets")
    )
    for name, service in _compose(path)["services"].items():
        assert set(service.get("depends_on") or {}) <= services, name
        assert set(service.get("networks") or ()) <= networks, name
        assert set(service.get("secrets") or ()) <= known, name
        mounted = {volume.split(":")[0] for volume in service.get("volumes") or ()}
        assert {m for m in mounted if not m.startswith(("/", "./"))} <= volumes, name
        for needed, condition in (service.get("depends_on") or {}).items():
            assert condition == {"condition": "service_healthy"}
            assert any("healthcheck" in (part["services"].get(needed) or {}) for part in parts)
        assert path.name == "compose.yaml" or name in parts[0]["services"]
    made = {file.name for file in secrets.iterdir()}
    for part in parts:
        assert {Path(secret["file"]).name for secret in part.get("secrets", {}).values()} <= made


@pytest.mark.parametrize(("path", "service"), _services())
def test_no_container_is_root_or_can_change_its_programs(path: Path, service: Mapping[str, Any]) -> None:
    if "image" not in service:
        pytest.skip("only adds to a service of compose.yaml")
    assert not service["user"].startswith(("0", "root"))
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "network_mode", "cap_add"} & service.keys()


@pytest.mark.parametrize(("path", "service"), _services())
def test_ports_are_open_on_this_machine_or_on_the_internal_address(
    path: Path, service: Mapping[str, Any]
) -> None:
    open_to = {port.rsplit(":", 2)[0] for port in service.get("ports", ())}
    assert open_to <= ({"127.0.0.1"} if path.name == "compose.yaml" else {"10.0.0.1"})


def test_only_the_web_application_and_the_tools_can_write_to_the_study_folder_and_none_changes_a_video_by_accident() -> (
    None
):
    services = _compose(DEPLOY / "compose.yaml")["services"]
    writable = {
        name
        for name, service in services.items()
        for volume in service.get("volumes", ())
        if volume.endswith(":/srv/iss/study")
    }
    assert writable == {"web", "tools"}
    assert "/srv/iss/study/videos:/srv/iss/study/videos:ro" in services["web"]["volumes"]
    assert services["tools"]["profiles"] == ["tools"]
    serve, worker = (DEPLOY / "systemd" / f"iss-{name}.service" for name in ("serve", "worker"))
    assert "ReadOnlyPaths=/srv/iss/study/videos\n" in serve.read_text("utf-8")
    assert "ReadOnlyPaths=/srv/iss/study\n" in worker.read_text("utf-8")


def _settings() -> set[str]:
    names = {f"ISS_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names |= {f"ISS_{name.upper()}__{inner.upper()}" for inner in field.annotation.model_fields}
    return names


def test_every_setting_named_in_the_folder_is_one() -> None:
    named = {
        name: path.name
        for path in TEXTS
        for name in re.findall(r"\bISS_[A-Z0-9_]+\b", path.read_text("utf-8"))
    }
    assert len(named) > 8
    assert {name: path for name, path in named.items() if name not in _settings() | {"ISS_SECRETS"}} == {}


def _commands() -> Iterator[Any]:
    """Yield what follows ``iss`` in every file that starts it."""
    for path in COMPOSE:
        for name, service in _compose(path)["services"].items():
            command = service.get("command") or []
            words = shlex.split(command) if isinstance(command, str) else command
            if words[:1] == ["iss"]:
                yield pytest.param(words[1:], id=f"{path.name}:{name}")
    for path in UNITS:
        text = path.read_text("utf-8")
        options = re.findall(r'(?m)^Environment="WORKER_OPTIONS=(.*)"$', text)
        for line in re.findall(r"(?m)^ExecStart=/opt/iss/bin/iss (.*)$", text):
            yield pytest.param(shlex.split(line.replace("$WORKER_OPTIONS", *options or [""])), id=path.name)
    for path in (DEPLOY / "README.md", DEPLOY / "Containerfile"):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for found in re.findall(r"(?:^\s*|`|tools |; )iss ([a-z][-\w ]*)", line):
                yield pytest.param(found.split(), id=f"{path.name}:{number}")


@pytest.mark.parametrize("words", _commands())
def test_every_command_and_option_named_in_the_folder_exists(words: list[str]) -> None:
    assert words[0] in main.COMMANDS
    command = main._load(words[0])
    for word in words[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    options = {option for known in command.params for option in (*known.opts, *known.secondary_opts)}
    assert {word for word in words[1:] if word.startswith("-")} <= options | {"--help"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_file_holds_a_secret_or_the_name_of_a_registry(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"(?i)(password|secret)\s*[=:]\s*['\"]?[A-Za-z0-9]{12,}", text)
    images = re.findall(r"(?m)^\s*(?:image|repository): ?(\S+)|^FROM (\S+)", text)
    assert all(
        "." not in (a or b).split("/")[0].split(":")[0] for a, b in images if not (a or b).startswith("$")
    )


def _unit(path: Path) -> list[tuple[str, str]]:
    text = path.read_text("utf-8")
    return re.findall(r"(?m)^(\w+)=(.*)$", text)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_units(path: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    copy = tmp_path / path.name
    copy.write_text(path.read_text("utf-8").replace("/opt/iss/bin/iss", "/bin/true"))
    if (timer := path.with_suffix(".timer")).exists():
        shutil.copy(timer, tmp_path)
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    # the units of this machine are loaded, too
    assert [line for line in done.stderr.splitlines() if path.stem in line] == [] and done.returncode == 0
    copy.write_text(f"{copy.read_text('utf-8')}\n[Service]\nProtectSystem=stricter\n")
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert "stricter" in done.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_give_their_program_every_secret_by_a_file(path: Path, secrets: Path) -> None:
    unit = _unit(path)
    credentials = dict(value.split(":") for key, value in unit if key == "LoadCredential")
    assert credentials and set(credentials) <= {file.name for file in secrets.iterdir()}
    assert all(source == f"/etc/iss/secrets/{name}" for name, source in credentials.items())
    environment = " ".join(value for key, value in unit if key == "Environment")
    assert "PGSERVICEFILE=%d/pg_service.conf" in environment
    if path.stem != "iss-backup":
        assert ("User", "iss") in unit and "ISS_SECRETS=%d" in environment
        assert "ISS_CLUSTER__BROKER" in credentials


def test_secrets_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    make = [DEPLOY / "make-secrets.sh", tmp_path / "secrets"]
    subprocess.run(make, check=True)
    first = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert len(first["postgres_password"]) == len(first["redis_password"]) == 40
    assert first["postgres_password"] != first["redis_password"]
    assert {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "secrets").iterdir()} == {"0o600"}
    subprocess.run([*make, "10.0.0.1"], check=True)
    second = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"pg_service.conf", "ISS_CLUSTER__BROKER"}
    assert second["ISS_CLUSTER__BROKER"] == first["ISS_CLUSTER__BROKER"].replace("@redis:", "@10.0.0.1:")
    service = configparser.ConfigParser()
    service.read_string(second["pg_service.conf"])
    assert service["iss"]["host"] == "10.0.0.1" and service["iss"]["password"] == first["postgres_password"]


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^\s*#.*\n", "", (DEPLOY / "Containerfile").read_text("utf-8")).replace("\\\n", " ")
    return [
        (word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def test_the_image_is_made_of_what_exists_and_does_not_run_as_root() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    instructions = _instructions()
    assert [rest for word, rest in instructions if word == "USER"][-1] == "10001:10001"
    runs = " ".join(rest for word, rest in instructions if word == "RUN")
    (extras,) = re.findall(r"iss-assets\[([\w,]+)\]", runs)
    assert set(extras.split(",")) == set(project["optional-dependencies"]) - {"dev"}
    for tool in re.findall(r"(hatch[\w-]*==[\d.]+)", runs):
        assert tool in project["optional-dependencies"]["dev"]
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text("utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[1] == "*" and all((ROOT / name).exists() for name in kept)
    copied = [
        rest.split()[:-1] for word, rest in instructions if word == "COPY" and not rest.startswith("--from")
    ]
    assert set(itertools.chain(*copied)) - {"."} <= kept
    # hatchling needs these, and what the build includes
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert {*wheel["only-include"], "pyproject.toml", "README.md", "LICENSE"} <= kept


def _model(kind: type[Any], given: Mapping[str, Any]) -> Any:
    """Return an object of Kubernetes' API; a key that it does not have is an error."""
    return k8s_model_from_dict(kind, k8s_snake_case_dict(kind, given))


def _as_the_chart_does(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the instance settings that Dagster's chart writes from our values; keys that it does not know are an error."""
    daemon, launcher = values["dagsterDaemon"], dict(values["runLauncher"]["config"]["k8sRunLauncher"])
    coordinator = dict(daemon["runCoordinator"]["config"]["queuedRunCoordinator"])
    monitoring = dict(daemon["runMonitoring"])
    kubernetes_config = dict(launcher.pop("runK8sConfig"))
    instance = {
        "run_launcher": {
            "module": "dagster_k8s",
            "class": values["runLauncher"]["type"],
            "config": {
                "load_incluster_config": launcher.pop("loadInclusterConfig"),
                "image_pull_policy": launcher.pop("imagePullPolicy"),
                "fail_pod_on_run_failure": launcher.pop("failPodOnRunFailure"),
                "service_account_name": "dagster",
                "job_namespace": "iss",
                "dagster_home": "/opt/dagster/dagster_home",
                "instance_config_map": "dagster-instance",
                "postgres_password_secret": values["global"]["postgresqlSecretName"],
                "env_config_maps": [entry["name"] for entry in launcher.pop("envConfigMaps")],
                "volumes": launcher.pop("volumes"),
                "volume_mounts": launcher.pop("volumeMounts"),
                "run_k8s_config": {
                    "container_config": kubernetes_config.pop("containerConfig"),
                    "pod_spec_config": kubernetes_config.pop("podSpecConfig"),
                    "job_spec_config": kubernetes_config.pop("jobSpecConfig"),
                },
            },
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {
                "max_concurrent_runs": coordinator.pop("maxConcurrentRuns"),
                "tag_concurrency_limits": coordinator.pop("tagConcurrencyLimits"),
            },
        },
        "run_monitoring": {
            "enabled": monitoring.pop("enabled"),
            "start_timeout_seconds": monitoring.pop("startTimeoutSeconds"),
            "cancel_timeout_seconds": monitoring.pop("cancelTimeoutSeconds"),
            "poll_interval_seconds": monitoring.pop("pollIntervalSeconds"),
            "max_resume_run_attempts": monitoring.pop("maxResumeRunAttempts"),
            "free_slots_after_run_end_seconds": monitoring.pop("freeSlotsAfterRunEndSeconds"),
        },
        "telemetry": values["telemetry"],
    }
    assert not (launcher or coordinator or monitoring or kubernetes_config), (
        "keys that the chart does not have"
    )
    assert not instance.keys() & values["additionalInstanceConfig"].keys()
    return {**instance, **values["additionalInstanceConfig"]}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    found = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text("utf-8"))
    return {name: value for name, value in found.items() if not name.startswith("x-")}


def test_dagster_accepts_the_instance_that_its_chart_makes_of_the_values(values: dict[str, Any]) -> None:
    instance = _as_the_chart_does(values)
    checked = process_config(dagster_instance_config_schema(), instance)
    assert checked.success, checked.errors
    config = process_config(K8sRunLauncher.config_type(), instance["run_launcher"]["config"])
    assert config.success, config.errors
    assert config.value is not None
    (limit,) = instance["run_coordinator"]["config"]["tag_concurrency_limits"]
    assert limit == {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    coordinator = process_config(QueuedRunCoordinator.config_type(), instance["run_coordinator"]["config"])
    assert coordinator.success, coordinator.errors


def test_kubernetes_accepts_what_the_values_say_about_pods(values: dict[str, Any]) -> None:
    run = values["runLauncher"]["config"]["k8sRunLauncher"]
    parts = [
        *values["dagster-user-deployments"]["deployments"],
        values["dagsterDaemon"],
        values["dagsterWebserver"],
    ]
    parts.append({**run["runK8sConfig"]["containerConfig"], "podSecurityContext": run["runK8sConfig"]["podSpecConfig"]["securityContext"], "volumes": run["volumes"], "volumeMounts": run["volumeMounts"]})  # fmt: skip
    for part in parts:
        user = _model(kubernetes.V1PodSecurityContext, part["podSecurityContext"])
        assert user.run_as_non_root and user.run_as_user == 10001
        container = _model(kubernetes.V1SecurityContext, part["securityContext"])
        assert container.read_only_root_filesystem and not container.allow_privilege_escalation
        volumes = {_model(kubernetes.V1Volume, volume).name for volume in part["volumes"]}
        mounts = [_model(kubernetes.V1VolumeMount, mount) for mount in part["volumeMounts"]]
        assert {mount.name for mount in mounts} == volumes
        # the program writes to nothing else
        assert {"/scratch", "/tmp"} <= {mount.mount_path for mount in mounts}
        if "resources" in part:
            _model(kubernetes.V1ResourceRequirements, part["resources"])
    assert all(m["readOnly"] for m in run["volumeMounts"] if m["name"] == "study")
    assert values["dagsterWebserver"]["service"]["type"] == "ClusterIP" and not values["ingress"]["enabled"]


def test_kubernetes_storage_has_every_name_that_the_values_refer_to(values: dict[str, Any]) -> None:
    manifests = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "storage.yaml").read_text("utf-8")))
    models = {"ConfigMap": kubernetes.V1ConfigMap, "PersistentVolumeClaim": kubernetes.V1PersistentVolumeClaim, "NetworkPolicy": kubernetes.V1NetworkPolicy}  # fmt: skip
    for manifest in manifests:
        body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
        assert _model(models[manifest["kind"]], body) is not None
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    (code,) = values["dagster-user-deployments"]["deployments"]
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in code["volumes"] if "persistentVolumeClaim" in v
    ]
    assert len(claims) == 3 and {("PersistentVolumeClaim", name) for name in claims} <= names
    assert {("ConfigMap", entry["name"]) for entry in code["envConfigMaps"]} <= names
    (settings,) = (m["data"] for m in manifests if m["kind"] == "ConfigMap")
    mounted = {mount["mountPath"] for mount in code["volumeMounts"]}
    assert {settings["ISS_STUDY"], settings["ISS_HOME"], settings["ISS_WAREHOUSE__DATA_PATH"]} <= mounted
    assert str(Path(settings["PGSERVICEFILE"]).parent) in mounted


def test_the_web_application_on_kubernetes_uses_what_is_there_and_runs_no_second_daemon(
    values: dict[str, Any],
) -> None:
    folder = DEPLOY / "kubernetes"
    deployment, service, policy = yaml.safe_load_all((folder / "web.yaml").read_text("utf-8"))
    models = (kubernetes.V1Deployment, kubernetes.V1Service, kubernetes.V1NetworkPolicy)
    for manifest, model in zip((deployment, service, policy), models, strict=True):
        body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
        assert _model(model, body) is not None
        assert model.__name__ == f"V1{manifest['kind']}"
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (code,) = values["dagster-user-deployments"]["deployments"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["ISS_SERVER__DAEMON"] == "false" and deployment["spec"]["replicas"] == 1
    assert environment["ISS_SERVER__CODE_LOCATION"] == code["name"]
    image = f"{code['image']['repository']}:{code['image']['tag']}"
    assert container["image"] == environment["DAGSTER_CURRENT_IMAGE"] == image
    assert [e["configMapRef"]["name"] for e in container["envFrom"]] == [
        e["name"] for e in code["envConfigMaps"]
    ]
    assert pod["spec"]["volumes"] == code["volumes"]
    assert pod["spec"]["securityContext"] == code["podSecurityContext"]
    assert container["securityContext"] == code["securityContext"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {mount["mountPath"] for mount in code["volumeMounts"]} | {"/srv/iss/study/videos"}
    assert mounts["/srv/iss/study/videos"]["readOnly"] and "readOnly" not in mounts["/srv/iss/study"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert service["spec"]["type"] == "ClusterIP"


class Host:
    """What systemd does for a unit: its environment, its credentials, its command, and the signal that stops it."""

    def __init__(self, root: Path, secrets: Path, more: Mapping[str, str]) -> None:
        self.root, self.secrets, self.more = root, secrets, more

    def start(self, unit: str) -> subprocess.Popen[bytes]:
        """Start the command of a unit, with nothing in its environment but what the unit says."""
        lines = _unit(DEPLOY / "systemd" / f"{unit}.service")
        credentials, cache = self.root / f"credentials-{unit}", self.root / f"cache-{unit}"
        credentials.mkdir()
        cache.mkdir()
        for value in (value for key, value in lines if key == "LoadCredential"):
            shutil.copy(self.secrets / value.split(":")[0], credentials)
        environment = {"PATH": "/usr/bin:/bin", **_assignments(DEPLOY / "systemd" / "iss.env")}
        for value in (value for key, value in lines if key == "Environment"):
            environment |= dict(word.split("=", 1) for word in shlex.split(value))
        folders = {"/srv/iss": str(self.root), "%d": str(credentials), "%C": str(cache)}
        for old, new in folders.items():
            environment = {name: value.replace(old, new) for name, value in environment.items()}
        (command,) = (value for key, value in lines if key == "ExecStart")
        program, *words = command.split()
        assert program == "/opt/iss/bin/iss"
        words = [
            part
            for word in words
            for part in (environment.get(word[1:], "").split() if word[0] == "$" else [word])
        ]
        with (self.root / f"{unit}.log").open("wb") as log:
            return subprocess.Popen(
                [Path(sys.executable).with_name("iss"), *words], env={**environment, **self.more}, cwd="/",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent(),
            )  # fmt: skip


@contextmanager
def _redis(configuration: Path, port: int, folder: Path) -> Iterator[None]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip(NO_REDIS)
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [program, configuration, "--port", str(port), "--bind", "127.0.0.1"], cwd=folder,
            stdout=log, stderr=log, preexec_fn=end_with_parent(),
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(120)


@pytest.mark.slow
@pytest.mark.thorough
def test_the_units_commands_process_a_patient_on_postgres_and_redis(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets, redis_port, web_port = tmp_path / "secrets", free_port(), free_port()
    secrets.mkdir()
    (secrets / "postgres_password").write_text(postgres.password)
    ports = {"PGPORT": str(postgres.port), "REDISPORT": str(redis_port), "RUN_AS": "root"}
    subprocess.run(
        [DEPLOY / "make-secrets.sh", secrets, "127.0.0.1"], check=True, env={"PATH": "/usr/bin:/bin", **ports}
    )
    for database in ("iss", "dagster"):
        postgres.execute(f"create database {database}")
    (tmp_path / "tables").mkdir()
    write_study(tmp_path / "study")
    more = {
        "ISS_SERVER__PORT": str(web_port), "ISS_WORDS__ENABLED": "false", "ISS_READING__SETTLE_SECONDS": "0",
        "ISS_SENSORS__INTERVAL_S": "2", "ISS_RUN__THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }  # fmt: skip
    host = Host(tmp_path, secrets, more)
    monkeypatch.setenv("PGSERVICEFILE", str(secrets / "pg_service.conf"))
    settings = WarehouseSettings(catalog="postgres:service=iss", data_path=str(tmp_path / "tables"))
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb", settings)
    with _redis(secrets / "redis.conf", redis_port, tmp_path):
        serve, worker = host.start("iss-serve"), host.start("iss-worker")
        try:

            def done() -> bool:
                return warehouse.exists() and len(warehouse.query("select video_id from videos")) == len(
                    VIDEOS
                )

            wait_for(done, serve, tmp_path / "iss-serve.log")
            (_, healthy) = _compose(DEPLOY / "compose.yaml")["services"]["redis"]["healthcheck"]["test"]
            there = healthy.replace("redis-cli", f"redis-cli -p {redis_port}")
            assert subprocess.run(["sh", "-c", there], check=False).returncode == 0
            away = healthy.replace("redis-cli", f"redis-cli -p {free_port()}")
            assert subprocess.run(["sh", "-c", away], check=False).returncode != 0
            refused = ["redis-cli", "-p", str(redis_port), "keys", "*"]
            assert "NOAUTH" in subprocess.run(refused, capture_output=True, text=True, check=False).stdout
            assert worker.poll() is None
            with urllib.request.urlopen(f"http://127.0.0.1:{web_port}/health", timeout=120) as answer:
                assert answer.status == 200
            assert set(warehouse.query("select status from videos")["status"].to_pylist()) == {"unreadable"}
        finally:
            for process in (serve, worker):
                process.terminate()
            status = [process.wait(120) for process in (serve, worker)]
    assert status == [0, 0]
    # passwords are in files of the administrator and nowhere else
    redis_password = (secrets / "redis_password").read_bytes()
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        if path.parent != secrets and not path.parent.name.startswith("credentials-"):
            content = path.read_bytes()
            assert postgres.password.encode() not in content and redis_password not in content, path
