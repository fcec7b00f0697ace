"""Small networks on the CPU with OpenVINO: the layers of a graph, and compiling it.

Compared to torch in the same thread, MTCNN's three networks take half to three quarters of the time (OpenVINO fuses a
convolution with what follows it), and a process without torch takes 420 MB less memory.

OpenVINO is imported only here: its model converter, which it imports too, sends telemetry when it is imported. It is
not needed, so it is blocked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]  # an import of it fails, which OpenVINO allows for
import openvino  # noqa: E402
from openvino import opset13 as op  # noqa: E402

_REPEATABLE: Final = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}
Run = Callable[..., list[NDArray[Any]]]
"""Takes the inputs and returns the outputs. Not thread-safe."""


class OpenVinoLayers:
    """`mtcnn.Layers` that build an OpenVINO graph.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Keyed by names like ``conv1.weight``.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights

    def conv(self, name: str, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        kernel = self._weights[f"{name}.weight"]
        bias = self._weights[f"{name}.bias"].reshape(1, -1, 1, 1)
        return op.add(
            op.convolution(x, op.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1]), op.constant(bias)
        )

    def prelu(self, name: str, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return op.prelu(x, op.constant(self._weights[f"{name}.weight"]))

    def pool(self, x: Any, size: int) -> Any:
        """See `mtcnn.Layers`."""
        made = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [size, size], rounding_type="ceil")
        return made.output(0)

    def flat(self, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return op.reshape(op.transpose(x, op.constant([0, 3, 2, 1])), op.constant([0, -1]), special_zero=True)

    def dense(self, name: str, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        weight = self._weights[f"{name}.weight"]
        bias = self._weights[f"{name}.bias"].reshape(1, -1)
        return op.add(op.matmul(x, op.constant(weight), False, True), op.constant(bias))

    def softmax(self, x: Any) -> Any:
        """See `mtcnn.Layers`."""
        return op.softmax(x, 1)


def picture_network(
    network: Callable[[Any, Any], tuple[Any, ...]], weights: Mapping[str, NDArray[np.float32]]
) -> Any:
    """Compile a network for pictures in their memory layout, float32 of shape (n, height, width, 3).

    Parameters
    ----------
    network : callable
        Takes `mtcnn.Layers` and pictures of shape (n, 3, height, width), and returns the outputs.
    weights : mapping of str to ndarray
        Keyed by names like ``conv1.weight``.
    """
    pictures = op.parameter([-1, -1, -1, 3], np.float32)
    channels_first = op.transpose(pictures, op.constant([0, 3, 1, 2]))
    return compiled(network(OpenVinoLayers(weights), channels_first), [pictures])


def compiled(outputs: Sequence[Any], inputs: Sequence[Any]) -> Any:
    """Compile a graph for one thread and full precision, so that results do not depend on the CPU.

    Parameters
    ----------
    outputs, inputs : sequence of OpenVINO nodes
        Results of the graph and its parameters, in the order in which `runner` returns and takes them.
    """
    graph = openvino.Model([openvino.op.Result(output(o)) for o in outputs], list(inputs))
    return openvino.Core().compile_model(graph, "CPU", _REPEATABLE)


def compiled_file(path: Path) -> Any:
    """Compile a network from a file (ONNX, TensorFlow Lite, or OpenVINO's own) as `compiled` does."""
    core = openvino.Core()
    return core.compile_model(core.read_model(path), "CPU", _REPEATABLE)


def output(node: Any) -> Any:
    """Return a node's first output; an output is returned as is."""
    return node.output(0) if hasattr(node, "output") else node


def runner(network: Any) -> Run:
    """Return a function that runs a compiled network with its own working memory."""
    request = network.create_infer_request()

    def run(*inputs: NDArray[Any]) -> list[NDArray[Any]]:
        found = request.infer(dict(enumerate(inputs)), share_inputs=True)
        return [np.asarray(found[i]) for i in range(len(found))]

    return run
