"""The experiments as data: the paper's section 4, line by line, and one of our own.

Belongs here: what each experiment sees, what it predicts, which model does it.
Does not belong here: what was published (``protocol.published``), how the models look (``networks``, ``forests``,
``probe``), how they are trained (``training``).

An experiment more is one entry in `EXPERIMENTS` and, if need be, one network in ``networks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from iss_assets.protocol import terms
from iss_assets.settings import TrainingSettings

CODE_VERSION: Final = "2"
"""Raised whenever a change of this package changes what networks and the probe predict."""

FOREST_CODE_VERSION: Final = "3"
"""The same for forests, which are grown again in minutes: days of network training need not go stale with them. Since 3
a tree draws as many frames as there are, not as many submissions."""

Item = Literal["frame", "chunk", "submission"]
Input = Literal["faces", "landmarks", "scores", "mel", "audio_features", "embeddings"]
Model = Literal["resnet50", "forest", "fusion_1", "fusion_2", "fusion_3", "audio_static", "linear_probe"]


@dataclass(frozen=True)
class Experiment:
    """One row of the paper's Table 5.

    Attributes
    ----------
    name : str
        Name in every table and file.
    paper_number : int or None
        Number of the experiment in section 4; None for ours.
    title : str
        Name of the model in Table 5.
    inputs : tuple of str
        What the model sees; the keys of ``Items.inputs``.
    item : str
        What is predicted one at a time: a ``frame``, a 4-second ``chunk`` or a ``submission``.
    classes : int
        Four pain levels, or two: no pain and pain.
    model : str
        Which model learns it.
    """

    name: str
    paper_number: int | None
    title: str
    inputs: tuple[Input, ...]
    item: Item
    classes: Literal[2, 4]
    model: Model

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs; the first is always the one without pain."""
        return terms.PAIN_LEVELS if self.classes == 4 else terms.PAIN_CLASSES

    @property
    def uses_backbone(self) -> bool:
        """Whether first weights of ResNet50 are needed, for the model or for the embeddings it sees."""
        return self.model != "forest"

    @property
    def is_network(self) -> bool:
        """Whether training goes through epochs of gradient descent."""
        return self.model not in ("forest", "linear_probe")

    @property
    def code_version(self) -> str:
        """The version of the code that trains this kind of model."""
        return FOREST_CODE_VERSION if self.model == "forest" else CODE_VERSION

    def target(self, level: str) -> str:
        """Give the class of a patient with this pain level."""
        return level if self.classes == 4 else terms.pain_class(level)

    def reads(self, setting: str) -> bool:
        """Say whether a field of `TrainingSettings` changes what this experiment's model learns; see `READ_BY`."""
        return READ_BY[setting](self)

    def settings_read(self, settings: TrainingSettings) -> dict[str, Any]:
        """Give the settings that change what this experiment's model learns, as JSON has them."""
        return {n: v for n, v in settings.model_dump(mode="json").items() if self.reads(n)}


def _every(_: Experiment) -> bool:
    return True


def _none(_: Experiment) -> bool:
    return False


def _networks(e: Experiment) -> bool:
    return e.is_network


def _faces(e: Experiment) -> bool:
    return bool({"faces", "embeddings"} & set(e.inputs))


READ_BY: Final[Mapping[str, Callable[[Experiment], bool]]] = MappingProxyType(
    {
        "profile": _every,  # printed with every result
        # who is on which side is part of a fold's data; the weights' file is told by its content
        "folds": _none,
        "split_seed": _none,
        "split_file": _none,
        "initial_weights": _none,
        "resnet50_weights": _none,
        "seed": lambda e: e.model != "linear_probe",
        "epochs": _networks,
        "batch_size": _networks,
        "learning_rate": _networks,
        "image_side": _faces,
        "feature_layer": lambda e: e.model in ("fusion_3", "audio_static"),
        "frames_per_patient": lambda e: e.item == "frame",
        "chunks_per_patient": lambda e: e.item == "chunk",
        "only_usable": _every,
        "missing_scores": lambda e: "scores" in e.inputs,
        "class_weights": _every,
        "precision": lambda e: e.uses_backbone,
        # where and how fast a model is computed; what was really used is stored with it
        "device": _none,
        "compile": _none,
        "compile_from_steps": _none,
        "folds_at_once": _none,
        "decoded_faces_gb": _none,
        "encoded_faces_gb": _none,
    }
)
"""Field of `TrainingSettings` to the experiments whose models it changes. A changed setting makes these stale and no
others. First weights (``initial_weights``, ``resnet50_weights``) count by their content beside this: see
``weights.weights_fingerprint``."""


EXPERIMENTS: Final = (
    # Experiment 1: "fine-tune ResNet-50 pretrained on ImageNet to predict four and two levels of pain"
    Experiment("resnet50_4_static", 1, "ResNet50-4-static", ("faces",), "frame", 4, "resnet50"),
    Experiment("resnet50_2_static", 1, "ResNet50-2-static", ("faces",), "frame", 2, "resnet50"),
    # Experiment 2: "the landmark arrays detected for each facial image"
    Experiment("forest_landmarks", 2, "Random Forest LM", ("landmarks",), "frame", 2, "forest"),
    # Experiment 3: "the nine self-reported pain scores [...] plus labels for sex, skin type, and timeframe"
    Experiment("forest_pain", 3, "Random Forest Pain", ("scores",), "submission", 2, "forest"),
    # Experiment 4: "the fully connected outputs of ResNet50 with raw landmarks"
    Experiment("fusion_1", 4, "Fusion 1", ("faces", "landmarks"), "frame", 2, "fusion_1"),
    # Experiment 5: the same "in addition to the nine pain scores, skin, sex, and timeframe labels"
    Experiment("fusion_2", 5, "Fusion 2", ("faces", "landmarks", "scores"), "frame", 2, "fusion_2"),
    # Experiment 6: "the feature map from layer-4-conv2D-1", a landmark and a pain network, into a CNN
    Experiment("fusion_3", 6, "Fusion 3", ("faces", "landmarks", "scores"), "frame", 2, "fusion_3"),
    # Experiment 7: "Mel spectrogram image and 25 audio features from 4-second chunks"
    Experiment("audio_static", 7, "Static Audio", ("mel", "audio_features"), "chunk", 2, "audio_static"),
    # Ours: what a practitioner would try first
    Experiment("embedding_probe", None, "Embedding probe", ("embeddings",), "frame", 2, "linear_probe"),
)
"""All experiments in the order of Table 5, ours last."""

BY_NAME: Final[Mapping[str, Experiment]] = MappingProxyType({e.name: e for e in EXPERIMENTS})


def experiment(name: str) -> Experiment:
    """Give the experiment of this name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.
    """
    if name not in BY_NAME:
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]
