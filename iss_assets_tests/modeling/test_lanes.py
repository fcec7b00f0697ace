"""Concurrent folds in one thread: order, number, and independence of the models."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from iss_assets.modeling import lanes
from iss_assets.modeling.experiments import Experiment, experiment
from iss_assets.modeling.fitting import fit_fold, fitting_steps, folds_side_by_side
from iss_assets.modeling.lanes import SETTLE_STEPS, WINDOW_S, Pace, Steps, side_by_side
from iss_assets.modeling.training import CHECKPOINT_FILE
from iss_assets.settings import TrainingSettings
from iss_assets_tests.modeling.conftest import planted_items
from iss_assets_tests.modeling.gpu_stand_in import Recorded, recorded

__all__ = ["recorded"]

FACES, FOREST = experiment("resnet50_2_static"), experiment("forest_pain")
SETTINGS = TrainingSettings(profile="demo", image_side=32, device="cpu", batch_size=8, checkpoint_s=0)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Records the streams that are used, on the CPU."""
    entered: list[object] = []

    def enter(stream: object) -> AbstractContextManager[None]:
        entered.append(stream)
        return nullcontext()

    monkeypatch.setattr(lanes, "stream_of", lambda number, device: number)
    monkeypatch.setattr(torch.cuda, "stream", enter)
    return entered


def steps(name: str, count: int, done: list[str]) -> Steps[str]:
    yield 0
    for _ in range(count):
        done.append(name)
        yield 16
    return name


@pytest.mark.usefixtures("small_backbone")
@pytest.mark.parametrize("chosen", [FACES, experiment("fusion_3")], ids=lambda e: e.name)
def test_a_fold_gives_the_same_file_alone_and_with_concurrent_folds(
    tmp_path: Path, chosen: Experiment, recorded: Recorded, used: list[object]
) -> None:
    """Steps are interleaved as on a GPU: setting up one fold must not affect another."""
    items = planted_items(chosen, each=6)
    sides = [items.of([p for p in items.patients if p != left]) for left in items.patients]
    alone = [fit_fold(chosen, s, SETTINGS, tmp_path / f"alone-{n}") for n, s in enumerate(sides)]
    jobs = [
        partial(fitting_steps, chosen, side, SETTINGS, tmp_path / f"beside-{n}")
        for n, side in enumerate(sides)
    ]
    beside = dict(side_by_side(jobs, 3, "cuda"))
    assert set(used) == {0, 1, 2}
    files = [fitted.weights.read_bytes() for fitted in alone]
    assert files == [beside[n].weights.read_bytes() for n in range(len(sides))]
    assert len(set(files)) == len(files)


@pytest.mark.usefixtures("small_backbone")
@pytest.mark.parametrize("at_once", [1, 2, None])
def test_on_a_cpu_folds_run_one_after_another_regardless_of_the_setting(
    tmp_path: Path, at_once: int | None
) -> None:
    order: list[str] = []
    jobs = [partial(steps, name, 3, order) for name in "ab"]
    settings = SETTINGS.model_copy(update={"folds_at_once": at_once})
    assert list(folds_side_by_side(FACES, jobs, settings)) == [(0, "a"), (1, "b")]
    assert order == ["a"] * 3 + ["b"] * 3


def test_folds_on_a_gpu_take_turns_and_a_finished_one_is_replaced(
    used: list[object],
) -> None:
    order: list[str] = []
    counts = {"a": 2, "b": 9, "c": 2}
    jobs = [partial(steps, name, count, order) for name, count in counts.items()]
    assert [name for _, name in side_by_side(jobs, 2, "cuda")] == ["a", "c", "b"]
    assert sorted(order) == sorted("aa" + 9 * "b" + "cc")
    assert "".join(order).strip("ab") == "cbc"
    assert set(used) == {
        0,
        1,
    }  # torch caches memory per stream: a stream per fold would keep the memory of all


def test_forests_are_grown_one_after_another() -> None:
    order: list[str] = []
    jobs = [partial(steps, name, 1, order) for name in "abc"]
    assert [number for number, _ in folds_side_by_side(FOREST, jobs, SETTINGS)] == [0, 1, 2]
    assert order == ["a", "b", "c"]


@pytest.mark.usefixtures("small_backbone")
def test_a_failed_fold_stops_concurrent_ones_and_their_checkpoints_remain(
    tmp_path: Path, used: list[object]
) -> None:
    items = planted_items(FACES, each=4)
    reported: list[float] = []

    def failing() -> Steps[None]:
        while not reported:
            yield 1
        raise ValueError("no numbers")

    settings = SETTINGS.model_copy(update={"epochs": 10_000})
    fitting = partial(fitting_steps, FACES, items, settings, tmp_path, lambda e: reported.append(e["epoch"]))
    before = torch.backends.cudnn.deterministic
    with pytest.raises(ValueError, match="no numbers"):
        jobs: list[Callable[[], Steps[Any]]] = [failing, fitting]
        list(side_by_side(jobs, 2, "cuda"))
    assert (tmp_path / CHECKPOINT_FILE).exists() and len(reported) < 3
    assert torch.backends.cudnn.deterministic == before


class Card:
    """A simulated GPU with a rate for each number of concurrent folds, and limited memory."""

    def __init__(self, rates: dict[int, float], fits: int = 99) -> None:
        self.rates, self.fits, self.now, self.lanes = rates, fits, 0.0, 0
        self.max_lanes = 0

    def job(self, count: int) -> Steps[None]:
        self.lanes += 1
        self.max_lanes = max(self.max_lanes, self.lanes)
        yield 0
        for _ in range(count):
            self.now += 16 / self.rates[self.lanes]  # the folds take turns in one thread
            yield 16
        self.lanes -= 1

    def memory(self) -> tuple[int, int]:
        return self.lanes * 10, (self.fits - self.lanes) * 10


@pytest.mark.parametrize(
    ("rates", "fits", "expected"),
    [
        # measured on an H100, interpolated; the sixth fold is tried and stays
        ({1: 3101, 2: 4317, 3: 4853, 4: 5050, 5: 5239, 6: 5200, 7: 5150}, 99, 6),
        # a card saturated by one fold: a second one is tried
        ({1: 400, 2: 405, 3: 405}, 99, 2),
        # memory for slightly more than three folds
        ({1: 1000, 2: 2000, 3: 3000, 4: 4000}, 4, 3),
    ],
)
def test_folds_are_added_while_the_total_rate_increases_and_memory_is_free(
    monkeypatch: pytest.MonkeyPatch, used: list[object], rates: dict[int, float], fits: int, expected: int
) -> None:
    card = Card(rates, fits)
    monkeypatch.setattr(lanes, "Pace", partial(Pace, clock=lambda: card.now, memory=card.memory))
    jobs = [partial(card.job, 20_000) for _ in range(10)]
    assert sorted(number for number, _ in side_by_side(jobs, None, "cuda")) == list(range(10))
    assert card.max_lanes == expected


def test_a_fixed_number_is_used_from_the_start_up_to_the_number_of_folds() -> None:
    assert Pace(5, 10, "cuda").at_once == 5
    assert Pace(5, 3, "cuda").at_once == 3
    assert Pace(None, 1, "cuda").at_once == 1


def test_no_fold_is_added_before_the_others_have_warmed_up() -> None:
    card = Card({1: 100.0, 2: 100.0})
    pace = Pace(None, 2, "cuda", clock=lambda: card.now, memory=card.memory)
    lane = lanes._Lane(0, 0, card.job(0))
    pace.restart()
    for _ in range(SETTLE_STEPS - 1):
        lane.taken += 1
        card.now += WINDOW_S
        pace.step_done(16, [lane])
    assert pace.at_once == 1
    for _ in range(3):
        lane.taken += 1
        card.now += WINDOW_S
        pace.step_done(16, [lane])
    assert pace.at_once == 2
