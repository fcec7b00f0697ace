"""Nothing that is set for a whole process, by an import or by the machine, changes what data mean.

Each test starts a process of its own: what a switch is set to there nobody has touched before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from iss_assets_tests.intake.conftest import ENROLLMENT_HEADER, SURVEY_HEADER

ROOT = Path(__file__).parents[1]

STUDY = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from iss_assets.settings import Settings
from iss_assets.intake.folder import patient_rows, problem_rows, read_study, score_rows
from iss_assets.schemas.intake import BpiScores, Patients, StudyProblems
from iss_assets.warehouse.database import Warehouse
from iss_assets.warehouse.sql.build import build_models
from iss_assets.warehouse.sql.models import load_models
from iss_assets.warehouse.export import export_tables

root = Path(sys.argv[1])
folder = read_study(root / "study", now=datetime(2030, 1, 1, tzinfo=UTC))
warehouse = Warehouse(root / "home" / "warehouse.duckdb")
warehouse.replace_all([])
warehouse.replace(Patients, Patients.from_rows(patient_rows(folder)), {})
warehouse.replace(BpiScores, BpiScores.from_rows(score_rows(folder)), {})
warehouse.replace(StudyProblems, StudyProblems.from_rows(problem_rows(folder)), {})
models = ["submission_adherence", "pain_scores_daily", "patient_timeline", "enrollment_progress"]
build_models(warehouse, load_models(warehouse.settings.sql_dir), models)
tables = ["patients", "bpi_scores", "study_problems", *models]
found = {n: warehouse.query(f"select * from {n} order by all").to_pylist() for n in tables}
found["days"] = warehouse.query(
    "select submission_id, cast(submitted_at as date) as in_utc, date_trunc('month', submitted_at) as month, "
    "extract(year from submitted_at) as year from bpi_scores order by 1"
).to_pylist()
export_tables(warehouse, tables, "csv", root / "out")
found["csv"] = {n: (root / "out" / f"{n}.csv").read_text("utf-8-sig") for n in tables}
import pandas as pd
frame = warehouse.query("select * from bpi_scores order by submission_id").to_pandas()
found["pandas"] = [str(m.tz_convert("UTC")) for m in frame["submitted_at"]]
from iss_assets.reports.patient_report import _with_clock
found["clock"] = [str(c) for c in _with_clock(frame)["clock"]]
from iss_assets.reports.gallery import mart_figures
found["figure"] = [figure.svg for figure in mart_figures("enrollment_progress", found["enrollment_progress"])]
print(json.dumps(found, default=str, sort_keys=True, ensure_ascii=True))
"""

MOMENTS = ["2021-01-12 07:00:00+00:00", "2021-01-12 06:30:00+00:00", "2020-12-31 23:15:00+00:00"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("switches")
    (root / "study" / "videos").mkdir(parents=True)
    (root / "study" / "enrollment.csv").write_text(
        f"{ENROLLMENT_HEADER}\n"
        "0007,4D,F,V,8,2021-01-11,-05:00\n0008,4D,F,V,8,2021-01-11,\n0009,1A,M,I,0,2020-12-30,\n"
    )
    answers = "home,7,yes,6,5,7,6,5,8,6"
    (root / "study" / "surveys.csv").write_text(
        f"{SURVEY_HEADER}\n"
        f"a,0007,2021-01-12T02:00:00-05:00,{answers}\n"
        f"b,0008,2021-01-12T15:30:00+09:00,{answers}\n"
        f"c,0009,2021-01-01T13:15:00+14:00,{answers}\n"
    )
    return root


def run_in_a_fresh_process(
    root: Path, code: str, environment: dict[str, str] | None = None, arguments: Sequence[str] = ()
) -> str:
    kept = {
        n: v for n, v in os.environ.items() if not n.startswith(("LC_", "LANG", "TZ", "PYARROW", "PANDAS"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), **(environment or {})},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def plain(study: Path) -> str:
    found = run_in_a_fresh_process(study, STUDY)
    output = json.loads(found)
    assert [r["submitted_at"] for r in output["bpi_scores"]] == MOMENTS
    assert output["pandas"] == MOMENTS
    assert [r["submitted_on"] for r in output["bpi_scores"]] == ["2021-01-12", "2021-01-12", "2021-01-01"]
    assert [r["year"] for r in output["days"]] == [2021, 2021, 2020]
    return found


SWITCHES = {
    "the machine: far east, Thai calendar, offsets dropped by pyarrow, pandas' future, no assertions": (
        "",
        {
            "TZ": "Pacific/Kiritimati",
            "LC_ALL": "th_TH.UTF-8",
            "PYARROW_IGNORE_TIMEZONE": "1",
            "PANDAS_FUTURE_INFER_STRING": "1",
            "PANDAS_COPY_ON_WRITE": "1",
            "NPY_PROMOTION_STATE": "weak",
            "PYTHONHASHSEED": "4242",
            "PYTHONOPTIMIZE": "1",
        },
    ),
    "other imports first, and their options: pandera, far west, Persian calendar": (
        "import pandera.pandas, sklearn.ensemble, altair, csv, decimal\n"
        "import pandas as pd, numpy as np\n"
        "pd.options.mode.copy_on_write = True; pd.options.future.infer_string = True\n"
        "pd.options.display.precision = 1; pd.options.mode.string_storage = 'python'\n"
        "np.seterr(all='raise'); np.set_printoptions(precision=1, legacy='1.13')\n"
        "decimal.getcontext().prec = 3; csv.field_size_limit(200)",
        {"TZ": "Pacific/Marquesas", "LC_ALL": "fa_IR.UTF-8"},
    ),
    "no unicode, pandera in between, and a zone that is set late": (
        "import iss_assets.intake.folder, pandera.pandas, iss_assets.schemas.registry, os, time\n"
        "os.environ['TZ'] = 'Asia/Kathmandu'; time.tzset(); os.environ['PYARROW_IGNORE_TIMEZONE'] = '1'",
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    ),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_what_is_stored_reported_and_exported_depends_on_no_switch(
    study: Path, plain: str, switch: str, tmp_path: Path
) -> None:
    first, environment = SWITCHES[switch]
    (tmp_path / "study").symlink_to(study / "study")
    assert run_in_a_fresh_process(tmp_path, first + "\n" + STUDY, environment) == plain


LOOK = """
import csv, decimal, importlib, json, locale, multiprocessing, os, pkgutil, signal, socket, sys, time
import numpy as np
import pandas as pd
import pyarrow as pa
import duckdb
from datetime import datetime, timedelta, timezone

def look():
    found = {"env " + k: v for k, v in os.environ.items()}
    found |= {c: locale.setlocale(getattr(locale, c)) for c in dir(locale) if c.startswith("LC_") and c != "LC_ALL"}
    found |= {"pandas " + k: repr(pd.get_option(k)) for k in pd._config.config._registered_options}
    found["zone"] = time.tzname
    found["numpy errors"] = np.geterr()
    found["numpy print"] = repr(np.get_printoptions())
    found["decimal"] = repr(decimal.getcontext())
    found["csv"] = csv.field_size_limit()
    found["timeout"] = socket.getdefaulttimeout()
    found["start method"] = multiprocessing.get_start_method(allow_none=True)
    found["recursion"] = sys.getrecursionlimit()
    found["umask"] = os.umask(0o77); os.umask(found["umask"])
    found["signals"] = repr([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)])
    at = datetime(2021, 1, 12, 2, tzinfo=timezone(timedelta(hours=-5)))
    found["pyarrow"] = str(pa.array([at]).cast(pa.timestamp("us", "UTC"))[0].as_py().astimezone(timezone.utc))
    if "torch" in sys.modules:
        import torch
        found["torch"] = [str(torch.get_default_dtype()), torch.is_grad_enabled(), torch.get_float32_matmul_precision()]
    return found

before = look()
import iss_assets
for module in pkgutil.walk_packages(iss_assets.__path__, "iss_assets."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in %r:
    importlib.import_module(name)
after = look()
torch = after.pop("torch")
changed = {k: [before.get(k), after.get(k)] for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
print(json.dumps({"changed": changed, "torch": torch, "moment": after["pyarrow"]}))
"""

HEAVY = (
    "torch",
    "facenet_pytorch",
    "mediapipe",
    "librosa",
    "sklearn.ensemble",
    "great_expectations",
    "altair",
    "av",
)

HARMLESS = (
    # where libraries look for their own files
    "env LD_LIBRARY_PATH",
    "env QT_QPA_FONTDIR",
    "env QT_QPA_PLATFORM_PLUGIN_PATH",
    "env TORCHINDUCTOR_CACHE_DIR",
    # two OpenMP libraries in one process, and what a forked child does with one
    "env KMP_DUPLICATE_LIB_OK",
    "env KMP_INIT_AT_FORK",
    # what MediaPipe and Great Expectations print or send
    "env GLOG_minloglevel",
    "env GX_ANALYTICS_ENABLED",
    "env TF_CPP_MIN_LOG_LEVEL",
)


def test_no_import_changes_what_data_mean_for_the_rest_of_the_process(tmp_path: Path) -> None:
    found = json.loads(run_in_a_fresh_process(tmp_path, LOOK % (HEAVY,)))
    assert {k: v for k, v in found["changed"].items() if k not in HARMLESS} == {}
    assert found["torch"] == ["torch.float32", True, "highest"]
    # what a notebook does with pyarrow after importing this package
    assert found["moment"] == "2021-01-12 07:00:00+00:00"
