"""Imports are at the top of a file, unless they defer a library that takes long to load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = frozenset(
    {
        "afx_audio",
        "altair",
        "apprise",
        "av",
        "boto3",
        "botocore",
        "ctranslate2",
        "cv2",
        "facenet_pytorch",
        "faster_whisper",
        "fairlearn",
        "dagster_postgres",
        "flyr",
        "great_expectations",
        "hibari",
        "librosa",
        "matplotlib",
        "mediapipe",
        "openvino",
        "psycopg2",
        "pyloudnorm",
        "safetensors.torch",
        "scipy",
        "skimage",
        "sklearn",
        "soundfile",
        "soxr",
        "spacy",
        "sqlglot",
        "tokenizers",
        "torch",
        "torchvision",
    }
)
"""Libraries that a function may import, and with them every module of ours that imports one when it is loaded."""

SLOW_FOR_THE_COMMAND_LINE = frozenset(
    {
        "dagster",
        "duckdb",
        "jinja2",
        "numpy",
        "pandas",
        "pandera",
        "pyarrow",
        "pydantic",
        "pydantic_settings",
        "rich",
    }
)
"""What ``iss --help`` does not wait for: the modules of ``iss_assets.cli`` may defer these libraries too."""

NOT_YET: tuple[str, ...] = ()
"""Packages whose imports are still to be moved to the top. Take a package off the list once its imports are."""


class Import(NamedTuple):
    """One import statement's module, and whether it runs only when a function is called."""

    module: str
    line: int
    deferred: bool


def test_imports_are_at_the_top_unless_they_defer_a_heavy_library() -> None:
    found = imports_of_package({m: path.read_text("utf-8") for m, path in our_modules().items()})
    late = [f for f in needlessly_late(found) if not is_inside(f.split(":")[0], NOT_YET)]
    assert not late, "move these imports to the top of their file:\n" + "\n".join(late)


@pytest.mark.parametrize(
    ("body", "late"),
    [
        ("import json", ["iss_assets.mine:2 json"]),
        ("import torch.nn", []),
        ("from safetensors import torch", []),
        ("from safetensors import numpy", ["iss_assets.mine:2 safetensors.numpy"]),
        ("from iss_assets.light import f", ["iss_assets.mine:2 iss_assets.light"]),
        ("from iss_assets import light", ["iss_assets.mine:2 iss_assets.light"]),
        ("from iss_assets.loads_torch import f", []),
        ("from iss_assets.loads_it_through_another import f", []),
        ("from iss_assets.defers_torch import f", ["iss_assets.mine:2 iss_assets.defers_torch"]),
        ("import dagster", ["iss_assets.mine:2 dagster"]),
    ],
)
def test_only_what_leads_to_a_heavy_library_may_be_imported_in_a_function(body: str, late: list[str]) -> None:
    sources = {
        "iss_assets": "",
        "iss_assets.light": "import json",
        "iss_assets.loads_torch": "try:\n    import torch\nexcept ImportError:\n    torch = None",
        "iss_assets.loads_it_through_another": "from iss_assets import loads_torch",
        "iss_assets.defers_torch": "def f():\n    import torch",
        "iss_assets.mine": f"def f():\n    {body}",
    }
    assert needlessly_late(imports_of_package(sources)) == late


def test_the_command_line_may_also_defer_what_it_does_not_need_for_its_help() -> None:
    sources = {"iss_assets.cli.run": "class A:\n    def f(self):\n        import dagster, json"}
    assert needlessly_late(imports_of_package(sources)) == ["iss_assets.cli.run:3 json"]


def test_the_code_location_loads_without_the_heaviest_libraries() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, iss_assets.definitions\n"
            "print(*(m for m in sys.argv[1:] if m in sys.modules))\n"
            "print('dagster' in sys.modules)",
            *("torch", "mediapipe", "librosa", "great_expectations"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["", "True"]


def our_modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    modules = {}
    for path in sorted((ROOT / "iss_assets").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    assert len(modules) > 100
    return modules


def imports_of_package(sources: Mapping[str, str]) -> dict[str, list[Import]]:
    """Return each module's imports, where ``from package import module`` counts as importing the module."""
    return {m: list(_imports(ast.parse(source).body, sources)) for m, source in sources.items()}


def _imports(body: Sequence[ast.AST], ours: Mapping[str, str], deferred: bool = False) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(name.name, node.lineno, deferred) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                separate = full in ours or node.module == "safetensors"
                yield Import(full if separate else str(node.module), node.lineno, deferred)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _imports(node.orelse, ours, deferred)
        else:
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(list(ast.iter_child_nodes(node)), ours, deferred or is_function)


def needlessly_late(imports: Mapping[str, Sequence[Import]]) -> list[str]:
    """List, as ``module:line imported``, what is imported in a function although it loads quickly."""
    found = []
    for start, heavy in (
        ("iss_assets.cli", HEAVY | SLOW_FOR_THE_COMMAND_LINE),
        ("iss_assets", HEAVY),
    ):
        slow = heavy | _loading(heavy, imports)
        for module, all_of_it in imports.items():
            if start == "iss_assets" and is_inside(module, ["iss_assets.cli"]):
                continue
            if is_inside(module, [start]):
                late = {
                    (i.line, i.module) for i in all_of_it if i.deferred and not _loads_one(i.module, slow)
                }
                found += [f"{module}:{line} {name}" for line, name in sorted(late)]
    return found


def _loading(heavy: frozenset[str], imports: Mapping[str, Sequence[Import]]) -> set[str]:
    """Return our modules that load one of these libraries when they are imported, directly or through others."""
    slow: set[str] = set()
    while True:
        more = {
            module
            for module, all_of_it in imports.items()
            if module not in slow
            and any(not i.deferred and _loads_one(i.module, heavy | slow) for i in all_of_it)
        }
        if not more:
            return slow
        slow |= more


def _loads_one(module: str, slow: set[str] | frozenset[str]) -> bool:
    """Return whether importing a module loads a slow one: itself or a package that it is in."""
    parts = module.split(".")
    return any(".".join(parts[:n]) in slow for n in range(1, len(parts) + 1))


def is_inside(module: str, packages: Sequence[str]) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)
