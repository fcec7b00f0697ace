from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from iss_assets.features.words import sentences as module
from iss_assets.features.words.sentences import DIMENSIONS, embed, sentences
from iss_assets.features.words.transcription import Word
from iss_assets_tests.features.words.speech import needs_speech


def test_sentences_end_with_their_marks() -> None:
    words = [Word(text, 0, 0, 1) for text in ["I", "hurt.", '"Really?"', "Yes", "and", "no"]]
    assert sentences(words) == ["I hurt.", '"Really?"', "Yes and no"]
    assert sentences([]) == []


@needs_speech
def test_texts_of_the_same_meaning_are_near() -> None:
    pain, same, other = (
        embed([text])
        for text in ("My back hurts at night.", "At night my back is painful.", "We cooked soup for dinner.")
    )
    assert pain is not None and same is not None and other is not None
    assert pain.shape == (DIMENSIONS,) and pain.dtype == np.float32
    assert abs(float(np.linalg.norm(pain)) - 1) < 1e-6
    assert float(pain @ same) > 0.8 > 0.3 > float(pain @ other)
    assert embed([]) is None


@needs_speech
def test_a_text_is_the_direction_of_its_sentences_weighted_by_length() -> None:
    short, long = "It hurts.", "We walked to the river, and the dog swam to the other side and back again."
    one, two, both = embed([short]), embed([long]), embed([short, long])
    assert one is not None and two is not None and both is not None
    assert float(both @ two) > float(both @ one)
    assert np.array_equal(both, embed([short, long]))  # type: ignore[arg-type]


@needs_speech
def test_words_come_apart_as_the_model_was_trained() -> None:
    pieces = module._tokenizer().encode("Gabapentin's dose, 300mg!").tokens
    assert pieces == [
        "[CLS]",
        "ga",
        "##ba",
        "##pen",
        "##tin",
        "'",
        "s",
        "dose",
        ",",
        "300",
        "##mg",
        "!",
        "[SEP]",
    ]


def test_the_tokenizer_is_the_one_that_was_published_with_its_license() -> None:
    folder = Path(module.__file__).parent / "minilm"
    content = (folder / "tokenizer.json").read_bytes()
    assert (
        hashlib.sha256(content).hexdigest()
        == "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    )
    assert json.loads(content)["model"]["type"] == "WordPiece"
    assert "Apache License" in (folder / "LICENSE").read_text("utf-8")
