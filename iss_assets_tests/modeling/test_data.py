"""Batches do not depend on where the data are stored: on the device, in memory, encoded, or in the warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iss_assets.modeling import data, pictures
from iss_assets.modeling.data import Data, batch_order, memory_budget, prefetch
from iss_assets.modeling.experiments import experiment
from iss_assets.modeling.items import Items, fit_preparation
from iss_assets.modeling.pictures import EncodedFaces, SharedPictures, StoredFiles
from iss_assets_tests.modeling.conftest import as_png, planted_items

FUSION = experiment("fusion_3")


def with_faces(items: Items, faces: object) -> Items:
    return Items(**{**vars(items), "inputs": {**items.inputs, "faces": faces}})


def faces_of(items: Items) -> EncodedFaces:
    """Return the faces of items, which must be encoded."""
    faces = items.inputs["faces"]
    assert isinstance(faces, EncodedFaces)
    return faces


def stored(items: Items, how: str) -> Items:
    faces = np.asarray(items.inputs["faces"])
    if how == "shared":
        return with_faces(items, SharedPictures(faces))
    files = pa.array([as_png(face) for face in faces], pa.large_binary())
    if how == "stored":
        storage = StoredFiles(lambda places: pa.chunked_array([files.take(pa.array(places))]), len(files))
        return with_faces(items, EncodedFaces(storage, 32))
    return with_faces(items, EncodedFaces(files, 32) if how == "encoded" else faces)


@given(st.integers(2, 200), st.integers(2, 32), st.integers(0, 5))
def test_batches_contain_every_item_once_and_never_a_single_item(n: int, size: int, epoch: int) -> None:
    batches = batch_order(n, size, seed=0, epoch=epoch)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(n))
    assert all(2 <= len(batch) <= size + 1 for batch in batches)
    assert all(len(batch) == size for batch in batches[:-1])


def test_every_epoch_has_its_own_order() -> None:
    orders = [np.concatenate(batch_order(50, 16, seed=0, epoch=epoch)).tolist() for epoch in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("room", [float("inf"), 30_000, 0])
@pytest.mark.parametrize("how", ["plain", "shared", "encoded", "stored"])
def test_batches_do_not_depend_on_where_the_data_are_stored(
    how: str, room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "WINDOW", 10)
    items = planted_items(FUSION, each=9).of(["0001", "0002", "0003"])
    preparation = fit_preparation(items, scaled=True)
    order = batch_order(len(items), 4, seed=0, epoch=1)
    ready = Data(stored(items, how), preparation, "cpu", room)
    assert ready.widths == {"landmarks": 1404, "scores": 16}
    far = {float("inf"): (), 30_000: ("landmarks", "faces"), 0: ("landmarks", "scores", "faces")}[room]
    assert set(ready.streamed_inputs) == {*far, *(("faces",) if how in ("encoded", "stored") else ())}
    batches = list(ready.batches(order))
    assert len(batches) == len(order)
    for places, (inputs, target) in zip(order, batches, strict=True):
        assert target.tolist() == items.target[places].tolist()
        assert torch.equal(inputs["faces"], torch.from_numpy(items.inputs["faces"][places]))
        assert torch.equal(inputs["landmarks"], torch.from_numpy(items.inputs["landmarks"][places]))
        assert torch.equal(inputs["scores"], torch.from_numpy(preparation.vectors(items)["scores"][places]))


def test_stored_pictures_are_fetched_in_windows_in_the_order_of_the_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data, "WINDOW", 12)
    items = planted_items(experiment("resnet50_2_static"), each=10)
    files = pa.array([as_png(face) for face in np.asarray(items.inputs["faces"])], pa.large_binary())
    asked: list[list[int]] = []

    def fetch(places: np.ndarray) -> pa.ChunkedArray:
        asked.append(places.tolist())
        return pa.chunked_array([files.take(pa.array(places))])

    faces = EncodedFaces(StoredFiles(fetch, len(files)), 32)
    order = batch_order(40, 4, seed=0, epoch=1)
    ready = Data(with_faces(items, faces), fit_preparation(items, scaled=True), "cpu")
    assert asked == []
    assert len(list(ready.batches(order))) == 10
    assert asked == [np.concatenate(order[start : start + 3]).tolist() for start in (0, 3, 6, 9)]


@pytest.mark.filterwarnings("error")
def test_a_model_takes_arrays_that_may_only_be_read_and_leaves_them_alone() -> None:
    items = planted_items(FUSION, each=2).of(["0001"])
    preparation = fit_preparation(items, scaled=True)
    arrays = [np.array(values) for values in (*items.inputs.values(), items.target)]
    for values in arrays:
        values.flags.writeable = False
    read_only = Items(
        **{**vars(items), "inputs": dict(zip(items.inputs, arrays, strict=False)), "target": arrays[-1]}
    )
    shared = with_faces(read_only, SharedPictures(np.asarray(read_only.inputs["faces"])))
    for stored_so in (read_only, shared):
        ((inputs, target),) = Data(stored_so, preparation, "cpu").batches([np.arange(len(items))])
        for tensor in (*inputs.values(), target):
            tensor.zero_()
    assert all(
        np.array_equal(values, np.asarray(same))
        for values, same in zip(arrays, (*items.inputs.values(), items.target), strict=True)
    )


def test_a_window_that_cannot_be_fetched_ends_the_batches_with_its_error() -> None:
    def fetch(places: np.ndarray) -> pa.ChunkedArray:
        raise OSError("gone")

    items = planted_items(experiment("resnet50_2_static"), each=4)
    faces = EncodedFaces(StoredFiles(fetch, len(items)), 32)
    ready = Data(with_faces(items, faces), fit_preparation(items, scaled=True), "cpu")
    with pytest.raises(OSError, match="gone"):
        next(ready.batches(batch_order(len(items), 4, 0, 1)))


def test_sides_share_one_copy_of_the_pictures_on_a_device() -> None:
    shared = SharedPictures(np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1))
    train, test = shared.select(np.array([0, 2, 4])), shared.select(np.array([5]))
    assert train.on_device("cpu") is test.on_device("cpu")
    assert test.sent_to("cpu") and not test.sent_to("cuda")
    assert train.select(np.array([2]))[np.array([0])].ravel().tolist() == [16, 17, 18, 19]
    assert np.array_equal(np.asarray(test), np.arange(20, 24).reshape(1, 2, 2, 1))
    assert train.shape == (3, 2, 2, 1)


@pytest.mark.parametrize("how", ["encoded", "stored"])
def test_faces_that_do_not_fit_in_main_memory_are_decoded_onto_the_gpu(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's meta device replaces the GPU here. Its tensors only have shapes; their content is checked on the CPU."""
    monkeypatch.setattr(pictures, "_WINDOW", 7)
    items = planted_items(experiment("resnet50_2_static"), each=5)
    encoded = stored(items, how)
    sides = encoded.of(["0000", "0001"]), encoded.of(["0002", "0003"])
    size = 20 * 32 * 32 * 3
    preparation = fit_preparation(items, scaled=True)
    assert Data(sides[0], preparation, "meta", size - 1).streamed_inputs == ("faces",)
    assert not faces_of(encoded).sent_to("meta")
    assert Data(sides[0], preparation, "meta", size).streamed_inputs == ()
    # sent for all sides at once, so that the next one needs no room
    ready = Data(sides[1], preparation, "meta", 0)
    assert ready.streamed_inputs == ()
    inputs, _ = next(ready.batches([np.arange(3)]))
    assert inputs["faces"].shape == (3, 32, 32, 3) and inputs["faces"].device.type == "meta"
    faces, pixels = faces_of(sides[1]), np.asarray(items.inputs["faces"])
    assert np.array_equal(faces.on_device("cpu").numpy()[faces.places], pixels[10:])


def test_memory_cached_by_torch_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("mem_get_info", (6e9, 24e9)), ("memory_reserved", 15e9), ("memory_allocated", 1e9)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert memory_budget("cuda") == 20e9 * data.DEVICE_SHARE
    assert memory_budget("cpu") == float("inf")


def test_prefetching_keeps_order_and_limit() -> None:
    begun: list[int] = []
    hold = Event()

    def task(number: int) -> int:
        begun.append(number)
        if number == 1:
            hold.wait(60)
        return number

    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(6):
            yield partial(task, number)

    with ThreadPoolExecutor(4) as pool:
        results = prefetch(pool, tasks(), 2)
        assert next(results) == 0
        assert max(begun) <= 2
        hold.set()
        assert list(results) == [1, 2, 3, 4, 5]
