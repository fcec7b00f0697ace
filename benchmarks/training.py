"""How fast the training core is, against the straightforward way, in one run; and what the whole paper profile takes.

    python -m benchmarks.training [--tiny] [--device cpu|cuda] [--images N] [--rounds N] [--json FILE]

The straightforward way is what one writes first: crops as JPEG files in a folder, a DataLoader with Pillow and
torchvision's transforms, float32, the loss read back every step, one fold after another. Ours is
``iss_assets.modeling.training.fit_network`` as the assets call it, with the settings' defaults and once more in
float32, and with two folds side by side. All train ResNet50 at batch 16 with Adam on the same pictures. Ways alternate within a round, in turn from
either end; a round gives ratios, and the figure is their median. The first epoch of each round warms up (and compiles,
on CUDA) and does not count. Pictures are invented (smooth colour fields), so no accuracy is reported.

The hours of the paper profile are extrapolated: folds x epochs x share of patients on the training side x items, over
the items a second measured here for each network with batches of 16; for the landmark forest, the time of a small
forest times n log n of the items.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from iss_assets.evaluation.published import FLOW
from iss_assets.modeling.computing import side_by_side
from iss_assets.modeling.experiments import EXPERIMENTS, Experiment, experiment
from iss_assets.modeling.forests import grow_forest
from iss_assets.modeling.items import Items, fit_preparation, make_items
from iss_assets.modeling.training import fit_network
from iss_assets.settings import TrainingSettings

SIDE = 160
FOLDS, EPOCHS, TRAIN_SHARE = 10, 10, 1 - 2.9 / 29
CHUNKS = round(509 * 37.32 / 4)
"""Whole 4-second chunks of the paper's 509 videos of 37.32 s on average (Table 4), at most."""


def invent(chosen: Experiment, n: int, side: int) -> Items:
    """Invent items with the shapes of real ones."""
    rng = np.random.default_rng(0)
    faces = np.stack(
        [
            cv2.resize(
                rng.integers(0, 255, (10, 10, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC
            )
            for _ in range(n)
        ]
    )
    inputs = {
        "faces": faces,
        "landmarks": rng.random((n, 1404), np.float32),
        "scores": rng.random((n, 15), np.float32),
        "audio_features": rng.random((n, 25), np.float32),
        "mel": -80 * rng.random((n, 128, 173), np.float32),
    }
    level = np.where(np.arange(n) % 2, "None", "Severe")
    return make_items(chosen, ["0001"] * n, [f"v{i}" for i in range(n)], level, inputs)


class JpegFolder(Dataset):
    """Crops as files, decoded one by one."""

    def __init__(self, folder: Path, target: np.ndarray):
        from torchvision import transforms

        self.files = sorted(folder.glob("*.jpg"))
        self.target = target
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.open(self.files[place]).convert("RGB")), int(self.target[place])


def straightforward(folder: Path, target: np.ndarray, device: str, epochs: int, workers: int) -> list[float]:
    """Train ResNet50 the first way that comes to mind; give the seconds of each epoch."""
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.fc = nn.Linear(2048, 2)
    network = network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    loader = DataLoader(JpegFolder(folder, target), batch_size=16, shuffle=True, num_workers=workers)
    seconds = []
    for _ in range(epochs):
        started, total = time.perf_counter(), 0.0
        for pictures, labels in loader:
            loss = nn.functional.cross_entropy(network(pictures.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds.append(time.perf_counter() - started)
    return seconds


def ours(items: Items, chosen: Experiment, settings: TrainingSettings, device: str) -> list[float]:
    """Train as the assets do; give the seconds of each epoch."""
    preparation = fit_preparation(items, scaled=True)
    with tempfile.TemporaryDirectory() as folder:
        _, history, _ = fit_network(
            chosen, items, preparation, np.ones(chosen.classes), settings, device, Path(folder)
        )
    return [entry["seconds"] for entry in history]


def side_by_side_rate(items: Items, chosen: Experiment, settings: TrainingSettings, device: str) -> float:
    """Train two folds at once; give the images a second of both together."""
    jobs = [lambda go_on: ours(items, chosen, settings, device)] * 2
    return sum(len(items) / seconds[-1] for _, seconds in side_by_side(jobs, 2, device))


def compare(n: int, side: int, rounds: int, device: str, workers: int) -> dict[str, Any]:
    """Measure images a second of every way, alternating, and the ratios to the straightforward one."""
    chosen = experiment("resnet50_2_static")
    items = invent(chosen, n, side)
    settings = TrainingSettings(initial_weights="random", epochs=2, image_side=side)
    with tempfile.TemporaryDirectory() as folder:
        for place, face in enumerate(np.asarray(items.inputs["faces"])):
            cv2.imwrite(f"{folder}/{place:06d}.jpg", face)
        plain = settings.model_copy(update={"precision": "float32"})
        ways = {
            "straightforward": lambda: (
                n / straightforward(Path(folder), items.target, device, 2, workers)[-1]
            ),
            "ours": lambda: n / ours(items, chosen, settings, device)[-1],
            "ours in float32": lambda: n / ours(items, chosen, plain, device)[-1],
            "ours, two folds side by side": lambda: side_by_side_rate(items, chosen, settings, device),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                rates[way].append(ways[way]())
    ratios = {
        way: [fast / slow for fast, slow in zip(found, rates["straightforward"], strict=True)]
        for way, found in rates.items()
    }
    return {
        "images_per_s": {way: statistics.median(found) for way, found in rates.items()},
        "ratio": {way: statistics.median(found) for way, found in ratios.items()},
        "ratios": ratios,
    }


def paper_profile(n: int, device: str, forest_items: int) -> list[dict[str, object]]:
    """Measure every experiment briefly and extrapolate to the paper's numbers."""
    settings = TrainingSettings(initial_weights="random", epochs=2)
    rows: list[dict[str, object]] = []
    for chosen in EXPERIMENTS:
        if chosen.is_network:
            rate = n / ours(invent(chosen, n, SIDE), chosen, settings, device)[-1]
            total = {"frame": FLOW["faces"], "chunk": CHUNKS}[chosen.item]
            if "landmarks" in chosen.inputs:
                total = FLOW["landmarks"]
            shown = FOLDS * EPOCHS * TRAIN_SHARE * total
            rows.append(
                {"experiment": chosen.name, "items_per_s": rate, "items": shown, "hours": shown / rate / 3600}
            )
    x, target = invented_landmarks(forest_items)
    started = time.perf_counter()
    grow_forest(x, target, np.ones(forest_items), 2, seed=0)
    took = time.perf_counter() - started
    grown = TRAIN_SHARE * FLOW["landmarks"]
    # growing a tree costs n log n comparisons a column
    hours = FOLDS * took * grown * math.log(grown) / (forest_items * math.log(forest_items)) / 3600
    shown = FOLDS * grown
    rows.append(
        {
            "experiment": "forest_landmarks",
            "items_per_s": shown / hours / 3600,
            "items": shown,
            "hours": hours,
        }
    )
    return rows


def invented_landmarks(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Invent meshes as they lie in a study: alike within a video, less so within a patient; one label a patient."""
    rng = np.random.default_rng(0)
    video = np.arange(n) * 509 // n
    patient = video * 29 // 509
    x = rng.normal(0, 0.05, (29, 1404))[patient] + rng.normal(0, 0.03, (509, 1404))[video]
    return (x + rng.normal(0, 0.01, (n, 1404))).astype(np.float32), patient % 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tiny", action="store_true", help="seconds instead of minutes; shows that it runs, no more"
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    gpu = given.device == "cuda"
    n = given.images or (32 if given.tiny else 4096 if gpu else 128)
    side = 64 if given.tiny else SIDE
    workers = 0 if given.tiny else min(4, os.cpu_count() or 1)
    rounds = 1 if given.tiny else given.rounds
    name = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads"
    print(f"ResNet50, batch 16, {n} images of {side} px, {rounds} rounds, {given.device} ({name})\n")
    compared = compare(n, side, rounds, given.device, workers)
    labels = {"straightforward": f"straightforward (JPEG files, DataLoader with {workers} workers, float32)"}
    print("| way | images/s | times the straightforward | rounds |\n|---|---|---|---|")
    for way, rate in compared["images_per_s"].items():
        each = ", ".join(f"{r:.2f}" for r in compared["ratios"][way])
        print(f"| {labels.get(way, way)} | {rate:.1f} | {compared['ratio'][way]:.2f} | {each} |")
    result: dict[str, object] = {"device": given.device, "name": name, "images": n, "side": side, **compared}
    if not given.tiny:
        rows = paper_profile(n, given.device, 20_000 if gpu else 6_000)
        print(
            f"\nWhole paper profile, extrapolated: hours = {FOLDS} folds x {EPOCHS} epochs x {TRAIN_SHARE:.0%} of"
        )
        print(
            f"{FLOW['faces']:,} faces ({FLOW['landmarks']:,} with landmarks, {CHUNKS:,} chunks of sound) / items a"
        )
        print(
            "second; one fold after another, training only: predicting shows every item once, not ninety times\n"
        )
        print("| experiment | items/s | items shown | hours |\n|---|---|---|---|")
        for row in rows:
            print(
                f"| {row['experiment']} | {row['items_per_s']:.1f} | {row['items']:,.0f} | {row['hours']:.1f} |"
            )
        total = sum(float(str(row["hours"])) for row in rows)
        print(f"| together (forest on scores, embeddings and probe: minutes) | | | {total:.1f} |")
        result |= {"paper_profile": rows, "paper_profile_hours": total}
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
