"""The notebook in docs/ runs from top to bottom on a warehouse, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from iss_assets.settings import Settings
from iss_assets.warehouse.database import Warehouse
from iss_assets_tests.made_up import tiny_study

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "explore.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_committed_without_outputs(notebook: nbformat.NotebookNode) -> None:
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert code
    assert all(c.outputs == [] and c.execution_count is None for c in code)


@pytest.mark.slow
def test_the_notebook_runs_and_draws_a_mesh_and_a_spectrogram_and_trains(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home")
    tiny_study(Warehouse(settings.warehouse_path, settings.warehouse))
    before = settings.warehouse_path.read_bytes()
    monkeypatch.setenv("ISS_HOME", str(tmp_path / "home"))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    printed = "".join(o.get("text", "") for o in outputs)
    assert len(pictures) == 2
    assert "8 patients, 16 submissions" in printed
    # the made-up scores follow the pain target closely, so a model must beat the frequent class
    learnt = float(printed.split("mean accuracy over 8 patients: ")[1][:5])
    frequent = float(printed.split("always the majority class: ")[1][:5])
    assert learnt > frequent
    assert settings.warehouse_path.read_bytes() == before
