"""The experiments as data: inputs, targets and model of each, following section 4 of the paper, and one of our own.

To add an experiment, add an entry to `EXPERIMENTS` and, if needed, a network in ``networks``. An experiment on whole videos
(``attention``) needs only the entry. Published figures are in ``protocol.published``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from iss_assets.protocol import terms
from iss_assets.settings import TrainingSettings

CODE_VERSION: Final = "2"
"""Version of the code of networks and probe; increase it with every change of what they predict."""

FOREST_CODE_VERSION: Final = "3"
"""Version of the code of forests. It is separate because forests are grown in minutes and networks in days. Since
version 3 each tree draws as many rows as there are frames, not as many as there are submissions."""

ATTENTION_CODE_VERSION: Final = "2"
"""Version of the code of attention networks, which are trained in seconds."""

Item = Literal["frame", "chunk", "submission", "video"]
Input = Literal[
    "faces",
    "landmarks",
    "scores",
    "mel",
    "audio_features",
    "embeddings",
    "voice",
    "behavior",
    "text",
    "embedding_series",
    "mesh_series",
    "behavior_series",
]
Model = Literal[
    "resnet50", "forest", "fusion_1", "fusion_2", "fusion_3", "audio_static", "linear_probe", "attention"
]
OverTime = Literal["convolution", "gru"]


@dataclass(frozen=True)
class Experiment:
    """One row of the paper's Table 5.

    Attributes
    ----------
    name : str
        Name in every table and file.
    paper_number : int or None
        Number of the experiment in section 4 of the paper; None for our own.
    title : str
        Name of the model in Table 5.
    inputs : tuple of str
        Inputs of the model; keys of ``Items.inputs``.
    item : str
        Unit of prediction: a ``frame``, a 4-second ``chunk``, a ``submission`` (weighted by its frames, as in the paper)
        or a ``video``.
    classes : int
        4 for the pain levels, 2 for no pain and pain.
    model : str
        Kind of model.
    over_time : str, optional
        How a model of kind ``attention`` looks at the neighbors of an instance in time; by default it does not.
    """

    name: str
    paper_number: int | None
    title: str
    inputs: tuple[Input, ...]
    item: Item
    classes: Literal[2, 4]
    model: Model
    over_time: OverTime | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the model's outputs; the first one is always no pain."""
        return terms.PAIN_LEVELS if self.classes == 4 else terms.PAIN_CLASSES

    @property
    def uses_backbone(self) -> bool:
        """Whether a pretrained network is used, as a part of the model or for its embeddings."""
        return self.uses_embeddings or self.model not in ("forest", "attention")

    @property
    def uses_embeddings(self) -> bool:
        """Whether faces are embedded by a frozen network first."""
        return "embeddings" in self.inputs or "embedding_series" in self.inputs

    @property
    def has_attention(self) -> bool:
        """Whether an item is a series of instances, which the model weighs."""
        return self.model == "attention"

    @property
    def is_network(self) -> bool:
        """Whether the model is trained by gradient descent in epochs."""
        return self.model not in ("forest", "linear_probe")

    @property
    def code_version(self) -> str:
        """Version of the code that trains this kind of model."""
        special = {"forest": FOREST_CODE_VERSION, "attention": ATTENTION_CODE_VERSION}
        return special.get(self.model, CODE_VERSION)

    def target(self, level: str) -> str:
        """Return the class of a patient with this pain level."""
        return level if self.classes == 4 else terms.pain_class(level)

    def reads(self, setting: str) -> bool:
        """Return whether a field of `TrainingSettings` affects this experiment's model; see `READ_BY`."""
        return READ_BY[setting](self)

    def settings_read(self, settings: TrainingSettings) -> dict[str, Any]:
        """Return the settings that affect this experiment's model, as JSON values."""
        return {n: v for n, v in settings.model_dump(mode="json").items() if self.reads(n)}


def _every(_: Experiment) -> bool:
    return True


def _none(_: Experiment) -> bool:
    return False


def _networks(e: Experiment) -> bool:
    return e.is_network and not e.has_attention


def _attention(e: Experiment) -> bool:
    return e.has_attention


def _faces(e: Experiment) -> bool:
    return "faces" in e.inputs


READ_BY: Final[Mapping[str, Callable[[Experiment], bool]]] = MappingProxyType(
    {
        "profile": _every,  # printed with every result
        # the patients on each side are part of the data of a fold; a weights file is identified by its content
        "folds": _none,
        "split_seed": _none,
        "split_file": _none,
        "initial_weights": _none,
        "resnet50_weights": _none,
        "embedding_network": _none,
        "seed": lambda e: e.model != "linear_probe",
        "epochs": _networks,
        "batch_size": lambda e: e.is_network,
        "learning_rate": _networks,
        "image_side": _faces,
        "feature_layer": lambda e: e.model in ("fusion_3", "audio_static"),
        "frames_per_patient": lambda e: e.item == "frame",
        "chunks_per_patient": lambda e: e.item == "chunk",
        "instance_s": _attention,
        "instances_per_video": _attention,
        "attention_epochs": _attention,
        "attention_learning_rate": _attention,
        "attention_videos_per_patient": _attention,
        "only_usable": _every,
        "missing_scores": lambda e: "scores" in e.inputs,
        "class_weights": _every,
        "precision": lambda e: e.uses_backbone and not e.has_attention,
        # these affect where and how fast a model is computed; what was used is stored with it
        "device": _none,
        "compile": _none,
        "compile_from_steps": _none,
        "folds_at_once": _none,
        "decoded_faces_gb": _none,
        "encoded_faces_gb": _none,
        "checkpoint_s": _none,
    }
)
"""For each field of `TrainingSettings`, whether it affects the model of an experiment. Changing a setting makes only
those experiments stale. First weights (``initial_weights``, ``resnet50_weights``, ``embedding_network``) are compared by
content instead: see ``weights.weights_fingerprint`` and ``weights.embedding_fingerprint``. Embeddings have a fingerprint of
their own, which is part of the data of a probe."""


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
    # Our own: what a practitioner would try first
    Experiment("embedding_probe", None, "Embedding probe", ("embeddings",), "frame", 2, "linear_probe"),
    # Our own: what the paper's second phase adds, one row a video
    Experiment("forest_voice", None, "Random Forest Voice", ("voice",), "video", 2, "forest"),
    Experiment("forest_behavior", None, "Random Forest Behavior", ("behavior",), "video", 2, "forest"),
    Experiment("forest_text", None, "Random Forest Text", ("text",), "video", 2, "forest"),
    Experiment(
        "forest_measures", None, "Random Forest Measures", ("voice", "behavior", "text"), "video", 2, "forest"
    ),
    # Our own: a whole video as the item, read second by second, with the four levels in their order
    Experiment(
        "mil_embeddings", None, "Attention Embeddings", ("embedding_series",), "video", 4, "attention"
    ),
    Experiment("mil_mesh", None, "Attention Mesh", ("mesh_series",), "video", 4, "attention", "convolution"),
    Experiment(
        "mil_behavior", None, "Attention Behavior", ("behavior_series",), "video", 4, "attention", "gru"
    ),
)
"""All experiments in the order of Table 5, followed by our own."""

BY_NAME: Final[Mapping[str, Experiment]] = MappingProxyType({e.name: e for e in EXPERIMENTS})


def experiment(name: str) -> Experiment:
    """Return the experiment with this name.

    Raises
    ------
    ValueError
        If there is none; the message lists the valid names.
    """
    if name not in BY_NAME:
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]
