"""Compare the training speed of every network with naive code, and estimate the duration of the paper's Table 5.

    python -m benchmarks.training [--tiny] [--device cpu|cuda] [--images N] [--rounds N] [--no-compile]
        [--json FILE]

All variants train the same network with batch size 16 and Adam on the same invented pictures (smooth color fields), so
accuracy is not reported. Rates are those of steady training, without the first steps of each fold.

- **naive**: the simplest code. Crops as JPEG files, spectrograms as ``.npy`` files, a DataLoader with four workers,
  Pillow and torchvision's transforms, float32, the loss read back in every step.
- **careful**: the same files with common optimizations: pinned memory, persistent workers, bfloat16, channels last,
  fused Adam, the loss left on the device.
- **ours**: ``iss_assets.modeling.training`` as called by the assets: eager, recorded as CUDA graphs, compiled, with
  several concurrent folds. By default their number is determined automatically.

Hours are extrapolated: folds x epochs x 90 % of the items (the training side) divided by the rate, plus the measured
overhead of every fold and epoch (setup, checkpoints). They do not include prediction, which processes every item once
instead of ninety times.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet50

from iss_assets.modeling import capture, training
from iss_assets.modeling.computing import can_compile, choose_device, precision
from iss_assets.modeling.experiments import EXPERIMENTS, Experiment, experiment
from iss_assets.modeling.forests import grow_forest
from iss_assets.modeling.items import Items, fit_preparation, make_items
from iss_assets.modeling.lanes import Steps, side_by_side
from iss_assets.modeling.networks import build_network
from iss_assets.modeling.pictures import SharedPictures
from iss_assets.protocol.published import FLOW
from iss_assets.settings import TrainingSettings

SIDE = 160
FOLDS, EPOCHS, TRAIN_SHARE = 10, 10, 1 - 2.9 / 29
CHUNKS = round(509 * 37.32 / 4)
"""Upper limit of the number of 4-second chunks in the paper's 509 videos of 37.32 s on average (Table 4)."""
WARM_STEPS = 24 if torch.cuda.is_available() else 1
"""Steps of every fold that are not measured; eight of them may still be queued on the GPU."""
BASE: dict[str, Any] = {"initial_weights": "random", "compile": "never", "epochs": 1}


def invent(chosen: Experiment, n: int, side: int) -> Items:
    """Create random items with the shapes of real ones."""
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    if "faces" in chosen.inputs:
        inputs["faces"] = SharedPictures(invented_faces(n, side))
    if "mel" in chosen.inputs:
        inputs["mel"] = SharedPictures(-80 * rng.random((n, 128, 173), np.float32))
    for name, width in {"landmarks": 1404, "scores": 15, "audio_features": 25}.items():
        if name in chosen.inputs:
            inputs[name] = rng.random((n, width), np.float32)
    level = np.where(np.arange(n) % 2, "None", "Severe")
    return make_items(chosen, ["0001"] * n, [f"v{i}" for i in range(n)], level, inputs)


@functools.cache
def invented_faces(n: int, side: int) -> np.ndarray:
    """Create smooth color fields, (n, side, side, 3) uint8."""
    coarse = np.random.default_rng(0).integers(0, 255, (n, 10, 10, 3), np.uint8)
    return np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in coarse])


class Files(Dataset[tuple[dict[str, torch.Tensor], int]]):
    """Pictures read from files one by one, with vectors in memory."""

    def __init__(self, folder: Path, items: Items, vectors: dict[str, np.ndarray]):
        self.folder, self.target, self.vectors = folder, items.target, vectors
        self.faces = "faces" in items.inputs
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
        )

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, place: int) -> tuple[dict[str, torch.Tensor], int]:
        inputs = {name: torch.from_numpy(values[place]) for name, values in self.vectors.items()}
        if self.faces:
            picture = Image.open(self.folder / f"{place:06d}.jpg").convert("RGB")
            inputs["faces"] = self.transform(picture)
        else:
            inputs["mel"] = torch.from_numpy(np.load(self.folder / f"{place:06d}.npy"))
        return inputs, int(self.target[place])


def write_files(items: Items, folder: Path) -> None:
    """Write the files for `Files`."""
    name = "faces" if "faces" in items.inputs else "mel"
    for place, values in enumerate(np.asarray(items.inputs[name])):
        if name == "faces":
            cv2.imwrite(str(folder / f"{place:06d}.jpg"), values)
        else:
            np.save(folder / f"{place:06d}.npy", values)


def from_files(
    chosen: Experiment, items: Items, folder: Path, device: str, workers: int, careful: bool
) -> float:
    """Train the naive or careful variant for one epoch; return items per second without the first batches."""
    vectors = fit_preparation(items, scaled=True).vectors(items)
    widths = {name: v.shape[1] for name, v in vectors.items()}
    network = build_network(chosen, resnet50(weights=None), widths, TrainingSettings().feature_layer)
    if "faces" in items.inputs:
        network.pictures = nn.Identity()  # type: ignore[assignment]  # replaced by the transforms of `Files`
    network = network.to(device).train()
    more: dict[str, Any] = {}
    if careful:
        network = network.to(memory_format=torch.channels_last)
        more = {"pin_memory": device == "cuda", "persistent_workers": workers > 0}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=careful or None)
    loader = DataLoader(
        Files(folder, items, vectors), batch_size=16, shuffle=True, num_workers=workers, **more
    )
    wait(device)
    started, total, shown = time.perf_counter(), torch.zeros((), device=device), 0
    # workers start once per epoch; an epoch of the paper is 75 times as long, so their start is not measured
    warm = min(256, len(items) // 2)
    for inputs, labels in loader:
        if warm and shown >= warm:
            wait(device)
            started, shown, warm = time.perf_counter(), 0, 0
        given = {n: t.to(device, non_blocking=careful) for n, t in inputs.items()}
        if careful and "faces" in given:
            given["faces"] = given["faces"].contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=careful):
            logits = network(given)
        loss = nn.functional.cross_entropy(logits.float(), labels.to(device, non_blocking=careful))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() if careful else loss.item()
        shown += len(labels)
    wait(device)
    took = time.perf_counter() - started
    return shown / took


class Meter:
    """Measures the total items per second of all folds for some seconds, once all have warmed up.

    Parameters
    ----------
    folds : int
        Number of folds.
    seconds : float
        Duration of the measurement, after which training stops.
    """

    def __init__(self, folds: int, seconds: float) -> None:
        self.seconds = seconds
        self.steps = [0] * folds
        self.items = 0
        self.started = self.ended = 0.0
        self.ready_s: list[float] = []

    def watch(self, fold: int, begin: Callable[[], Steps[Any]]) -> Steps[None]:
        """Run the steps of a fold and count them."""
        began, steps = time.perf_counter(), begin()
        for taken in steps:
            now = time.perf_counter()
            if not taken:
                self.ready_s.append(now - began)
            else:
                self.steps[fold] += 1
                if self.started:
                    self.items += taken
                elif min(self.steps) >= WARM_STEPS:
                    self.started = now
                if self.started and now - self.started > self.seconds:
                    break
            yield taken
        self.ended = self.ended or time.perf_counter()

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / (self.ended - self.started)


def jobs_of(
    chosen: Experiment, items: Items, device: str, folder: Path, settings: TrainingSettings, count: int
) -> list[Callable[[], Steps[Any]]]:
    """Return `count` training jobs of the same network, as started by the assets."""
    preparation, classes = fit_preparation(items, scaled=True), np.ones(chosen.classes)
    return [
        partial(
            training.training_steps, chosen, items, preparation, classes, settings, device, folder / str(fold)
        )
        for fold in range(count)
    ]


def ours(
    chosen: Experiment,
    items: Items,
    device: str,
    folds: int = 1,
    seconds: float = 2.0,
    **changed: Any,
) -> dict[str, float]:
    """Train concurrent folds for some seconds; return items per second, setup seconds and memory in GB."""
    settings = TrainingSettings.model_validate({**BASE, **changed})
    meter = Meter(folds, seconds)
    peak(device, reset=True)
    with tempfile.TemporaryDirectory() as folder:
        jobs = jobs_of(chosen, items, device, Path(folder), settings, folds)
        watched = [partial(meter.watch, fold, job) for fold, job in enumerate(jobs)]
        for _ in side_by_side(watched, folds, device):
            break  # the measurement is complete
    return {
        "rate": meter.rate,
        "first_ready_s": meter.ready_s[0],
        "ready_s": meter.ready_s[-1],
        "gb": peak(device),
    }


def ours_automatic(chosen: Experiment, items: Items, device: str, **changed: Any) -> dict[str, float]:
    """Train ten folds until their automatic number settles; return the number of concurrent folds and the rate."""
    settings = TrainingSettings.model_validate({**BASE, **changed})
    steps: list[tuple[float, int]] = []
    ready: list[float] = []
    newest = 0.0

    def watch(begin: Callable[[], Steps[Any]]) -> Steps[None]:
        nonlocal newest
        began = time.perf_counter()
        for taken in begin():
            now = time.perf_counter()
            if not taken:
                newest = now
                ready.append(now - began)
            steps.append((now, taken))
            if now > newest + 3.5:
                break
            yield taken

    peak(device, reset=True)
    with tempfile.TemporaryDirectory() as folder:
        jobs = jobs_of(chosen, items, device, Path(folder), settings, FOLDS)
        for _ in side_by_side([partial(watch, job) for job in jobs], None, device):
            break
    steady = [(at, taken) for at, taken in steps if at > newest + 1]
    return {
        "rate": sum(taken for _, taken in steady[1:]) / (steady[-1][0] - steady[0][0]),
        "at_once": len(ready),
        "ready_s": ready[-1],
        "first_ready_s": ready[0],
        "gb": peak(device),
    }


def peak(device: str, reset: bool = False) -> float:
    """Return the peak GPU memory reserved by torch since the last reset, in GB."""
    if device != "cuda":
        return 0.0
    if reset:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_reserved() / 1e9


def wait(device: str) -> None:
    """Wait for the GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def checkpoint_seconds(chosen: Experiment, items: Items, device: str) -> float:
    """Return the seconds per epoch in addition to its steps: writing the checkpoint."""
    few, times = items.take(np.arange(32)), list[float]()
    settings = TrainingSettings.model_validate({**BASE, "epochs": 2, "checkpoint_s": 0})
    with tempfile.TemporaryDirectory() as folder:
        steps = training.training_steps(
            chosen, few, fit_preparation(few, scaled=True), np.ones(chosen.classes), settings, device, Path(folder),
            lambda entry: times.extend([time.perf_counter(), entry["seconds"]]),
        )  # fmt: skip
        began = 0.0
        for taken in steps:
            began = began if taken else time.perf_counter()
    return max(0.0, times[0] - began - times[1])


def convolutions_alone(side: int) -> float:
    """Return images per second of the convolutions of ResNet50 alone on this CPU, forward and backward."""
    network, found = resnet50(weights=None), list[tuple[nn.Conv2d, torch.Size]]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, given, _: found.append((m, given[0].shape)))
    with torch.inference_mode():
        network(torch.zeros(16, 3, side, side))
    kind, took = precision(TrainingSettings(), "cpu"), 0.0
    for number, (module, shape) in enumerate(found):
        one = module.to(kind, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs of torch
        x = torch.rand(shape).to(kind).to(memory_format=torch.channels_last).requires_grad_(number > 0)
        for _ in range(3):  # only the last repetition is measured
            started = time.perf_counter()
            out = one(x)
            middle = time.perf_counter()
            gradient = torch.ones_like(out)
            again = time.perf_counter()
            out.backward(gradient)
            seconds = middle - started + time.perf_counter() - again
        took += seconds
    return 16 / took


def forest_hours(items: int) -> tuple[float, float]:
    """Return items and hours of the ten folds of the landmark forest, extrapolated as n log n from a small one."""
    x, target = invented_landmarks(items)
    started = time.perf_counter()
    grow_forest(x, target, np.ones(items), 2, seed=0)
    took = time.perf_counter() - started
    grown = TRAIN_SHARE * FLOW["landmarks"]
    # growing a tree takes n log n comparisons per column
    return FOLDS * grown, FOLDS * took * grown * math.log(grown) / (items * math.log(items)) / 3600


def invented_landmarks(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Create random meshes: similar within a video, less similar within a patient, with one label per patient."""
    rng = np.random.default_rng(0)
    video = np.arange(n) * 509 // n
    patient = video * 29 // 509
    x = rng.normal(0, 0.05, (29, 1404))[patient] + rng.normal(0, 0.03, (509, 1404))[video]
    return (x + rng.normal(0, 0.01, (n, 1404))).astype(np.float32), patient % 2


def shown_items(chosen: Experiment) -> float:
    """Return the number of items processed in the paper's cross-validation of an experiment, over all epochs."""
    total = (
        CHUNKS if chosen.item == "chunk" else FLOW["landmarks" if "landmarks" in chosen.inputs else "faces"]
    )
    return FOLDS * EPOCHS * TRAIN_SHARE * total


class Table:
    """A table whose rows are printed as they are added."""

    def __init__(self, *columns: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self.columns = columns
        print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)

    def add(self, *values: Any) -> None:
        """Print a row with rounded numbers."""
        self.rows.append(dict(zip(self.columns, values, strict=True)))
        print("| " + " | ".join(_cell(v) for v in values) + " |", flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return "" if value is None else str(value)


def in_one_network(
    n: int, side: int, device: str, workers: int, rounds: int, compiles: bool
) -> tuple[Table, dict[str, float]]:
    """Compare the variants with ResNet50 and two classes; return the table and the result of the automatic one."""
    chosen = experiment("resnet50_2_static")
    items = invent(chosen, n, side)
    many = repeated(items, device)
    gpu = device == "cuda"
    table = Table(
        "ResNet50, batch 16", "images/s", "times naive", "rounds", "GPU memory, GB", "ready after, s"
    )
    rates: dict[str, list[float]] = {}
    more: dict[str, dict[str, float]] = {}
    ways: dict[str, Callable[[], dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        write_files(items, Path(name))
        slow = partial(from_files, chosen, items, Path(name), device, workers)
        ways[f"naive ({workers} workers, float32)"] = lambda: {"rate": slow(False)}
        ways["careful (pinned, persistent workers, mixed precision, channels last)"] = lambda: {
            "rate": slow(True)
        }
        ours_now = partial(ours, chosen, many, device)
        if gpu:
            ways["ours, eager"] = lambda: eager(ours_now)
            ways["ours, captured, float32"] = partial(ours_now, precision="float32")
            for folds in (1, 2, 5, 10):
                ways[f"ours, captured, {folds} folds" if folds > 1 else "ours, captured"] = partial(
                    ours_now, folds
                )
            if compiles:
                for folds in (1, 5):
                    ways[f"ours, compiled and captured, {folds} fold{'s'[: folds - 1]}"] = partial(
                        ours_now, folds, compile="always"
                    )
            automatic = partial(ours_automatic, chosen, many, device)
            ways[f"ours, {'compiled and ' * compiles}captured, automatic number of folds"] = partial(
                automatic, compile="always" if compiles else "never"
            )
            ways["ours, captured, batch 256 (not the paper's)"] = partial(ours_now, batch_size=256)
        else:
            ways["ours"] = ours_now
            ways["ours, float32"] = partial(ours_now, precision="float32")
            if side == SIDE:  # oneDNN is slow for maps of two by two
                ways["floor: ResNet50's convolutions alone"] = lambda: {"rate": convolutions_alone(side)}
        for number in range(rounds):
            for way in list(ways) if number % 2 == 0 else reversed(ways):
                more[way] = ways[way]()
                rates.setdefault(way, []).append(more[way]["rate"])
                if rounds == 1:
                    add_way(table, way, rates, more)
        if rounds > 1:
            for way in ways:
                add_way(table, way, rates, more)
    return table, next((found for found in more.values() if "at_once" in found), {})


def add_way(table: Table, way: str, rates: dict[str, list[float]], more: dict[str, dict[str, float]]) -> None:
    """Add the medians of a variant; ratios are computed within a round."""
    naive = next(iter(rates.values()))
    ratios = [own / slow for own, slow in zip(rates[way], naive, strict=True)]
    each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    gb = more[way].get("gb") or None
    found = more[way].get("at_once")
    table.add(
        f"{way}: {found}" if found else way,
        statistics.median(rates[way]),
        statistics.median(ratios),
        each,
        gb,
        more[way].get("first_ready_s"),
    )


def eager(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Measure without CUDA graphs."""
    training.CAPTURE_FROM = 10**9  # type: ignore[misc]  # a constant, changed for the measurement
    try:
        return measure()
    finally:
        training.CAPTURE_FROM = capture.CAPTURE_FROM  # type: ignore[misc]  # a constant, changed for the measurement


def repeated(items: Items, device: str) -> Items:
    """Repeat items so that an epoch is longer than the measurement; pictures are shared."""
    times = 24 if device == "cuda" else 1
    return items.take(np.tile(np.arange(len(items)), times))


def table_5(
    n: int, side: int, device: str, workers: int, forest_items: int, at_once: int, compiles: bool
) -> Table:
    """Compare the default of the assets with the naive loop for every network, and extrapolate."""
    table = Table("experiment", "naive, items/s", "ours, items/s", "times naive", "how", "GPU memory, GB", "items shown", "hours")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        written: set[str] = set()
        for chosen in (e for e in EXPERIMENTS if e.is_network and not e.has_attention):
            items = invent(chosen, n, side)
            picture = chosen.inputs[0]
            folder = Path(name) / picture
            if picture not in written:
                folder.mkdir()
                write_files(items, folder)
                written.add(picture)
            naive = from_files(chosen, items, folder, device, workers, careful=False)
            shown = shown_items(chosen)
            long = shown / FOLDS / 16 >= TrainingSettings().compile_from_steps
            way = "always" if compiles and long else "never"
            found = ours(chosen, repeated(items, device), device, at_once, compile=way)
            rest = found["first_ready_s"] + (FOLDS - 1) * found["ready_s"]
            rest += FOLDS * EPOCHS * checkpoint_seconds(chosen, items, device)
            hours = (shown / found["rate"] + rest) / 3600
            how = f"{'compiled, ' if way == 'always' else ''}{at_once} at once"
            table.add(
                chosen.name,
                naive,
                found["rate"],
                found["rate"] / naive,
                how,
                found["gb"] or None,
                shown,
                hours,
            )
    shown, hours = forest_hours(forest_items)
    table.add("forest_landmarks", None, None, None, None, None, shown, hours)
    total = sum(row["hours"] for row in table.rows)
    table.add("together (forest on scores, embeddings and probe: minutes)", *[None] * 6, total)
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tiny", action="store_true", help="seconds instead of minutes, to check that it runs"
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--no-compile", action="store_true", help="skip the compiled variants, which take two minutes"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began, gpu = time.perf_counter(), given.device == "cuda"
    choose_device(
        TrainingSettings(device=given.device)
    )  # sets an environment variable before cuBLAS reads it
    n = given.images or (32 if given.tiny else 2048 if gpu else 128)
    side = 64 if given.tiny else SIDE
    workers = 0 if given.tiny else min(4, os.cpu_count() or 1)
    rounds = given.rounds or (1 if given.tiny or gpu else 3)
    BASE.update(image_side=side)
    name = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads"
    kind = str(precision(TrainingSettings(), given.device)).removeprefix("torch.")
    print(
        f"{n} images of {side} px, {rounds} round(s), {given.device} ({name}), torch {torch.__version__}, ours in "
        f"{kind}"
    )
    compiles = gpu and can_compile() and not given.no_compile
    ways, best = in_one_network(n, side, given.device, workers, rounds, compiles)
    result: dict[str, object] = {"device": given.device, "name": name, "images": n, "ways": ways.rows}
    if not given.tiny:
        print(
            f"\nTable 5, extrapolated: {FOLDS} folds x {EPOCHS} epochs x {TRAIN_SHARE:.0%} of {FLOW['faces']:,} faces"
            f" ({FLOW['landmarks']:,} with landmarks, {CHUNKS:,} audio chunks)"
        )
        rows = table_5(
            n, side, given.device, workers, 20_000 if gpu else 6_000, int(best.get("at_once", 1)), compiles
        )
        result["table_5"] = rows.rows
    print(f"\nThis took {time.perf_counter() - began:.0f} s.")
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
