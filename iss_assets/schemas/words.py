"""What is said in a video. Transcripts are the most private data of a study: see docs/privacy.md."""

from __future__ import annotations

from iss_assets.schemas.base import PATIENT_ID, SHARE, SUBMISSION_ID, Table, column

SPAN_KINDS = ("person", "place", "organization", "street", "phone", "email", "number")
"""What a stretch of words that may identify somebody can be; ``number`` is one of five digits or more: a postal code, a date,
a record."""


class Transcripts(Table):
    """One video's words, as speech recognition understood them."""

    __table__ = "transcripts"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    text: object = column("VARCHAR", "What is said; empty if nothing was recognized.")
    words: object = column("INTEGER", "Recognized words.", ge=0)
    language: object = column(
        "VARCHAR",
        "Language that is spoken (ISO 639-1); empty without speech, or if the detection is not sure.",
        nullable=True,
        str_matches=r"^[a-z]{2,3}$",
    )
    language_probability: object = column(
        "DOUBLE", "How sure the detection of the language is; empty without speech.", nullable=True, **SHARE
    )
    word_probability: object = column(
        "DOUBLE", "Mean probability of the words; empty without any.", nullable=True, **SHARE
    )
    speech_s: object = column(
        "DOUBLE", "Speech that was given to the recognition, with short pauses.", unit="s", ge=0
    )
    left_out_s: object = column(
        "DOUBLE",
        "Speech whose text was left out: the recognition repeated itself, or the language is unknown.",
        unit="s",
        ge=0,
    )
    wordless_s: object = column(
        "DOUBLE",
        "Time in which somebody speaks for more than 0.6 s without a word, for whatever reason; empty if made by a version that did "
        "not look.",
        unit="s",
        nullable=True,
        ge=0,
    )
    model: object = column("VARCHAR", "Model that recognized the words: its name and a hash of its content.")
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class TranscriptWords(Table):
    """One recognized word."""

    __table__ = "transcript_words"
    __key__ = ("video_id", "word_index")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    word_index: object = column("INTEGER", "Number of the word, from 0.", ge=0)
    word: object = column("VARCHAR", "The word, with the punctuation that belongs to it.")
    start_s: object = column("DOUBLE", "Where it begins, on the video's timeline.", unit="s", ge=0)
    end_s: object = column("DOUBLE", "Where it ends.", unit="s", ge=0)
    probability: object = column("DOUBLE", "How sure the recognition is.", **SHARE)
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class TranscriptSpans(Table):
    """One stretch of words that may identify somebody."""

    __table__ = "transcript_spans"
    __key__ = ("video_id", "first_word")
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    first_word: object = column("INTEGER", "Number of its first word (`transcript_words.word_index`).", ge=0)
    last_word: object = column("INTEGER", "Number of its last word.", ge=0)
    kind: object = column(
        "VARCHAR",
        "What it may be: person, place, organization, street, phone, email, or number (of five digits or more).",
        isin=SPAN_KINDS,
    )
    found_by: object = column(
        "VARCHAR",
        "What found it: spacy, rule, or both. An aid for readers: others are missed.",
        isin=("spacy", "rule", "both"),
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


class TextFeatures(Table):
    """Figures about what is said in one video."""

    __table__ = "text_features"
    __key__ = ("video_id",)
    __partition__ = ("patient_id",)
    __references__ = (("video_id", "videos"),)

    video_id: object = column("VARCHAR", "Video id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    words: object = column("INTEGER", "Recognized words.", ge=0)
    words_per_minute: object = column(
        "DOUBLE",
        "Words by the time from the first to the last, pauses included; empty for less than 2 s.",
        unit="1/min",
        nullable=True,
        ge=0,
    )
    pauses: object = column("INTEGER", "Gaps between words of at least `words.pause_s`.", ge=0)
    pause_share: object = column(
        "DOUBLE",
        "Share of the time from the first to the last word that is pauses; empty for less than 2 s.",
        nullable=True,
        **SHARE,
    )
    longest_pause_s: object = column(
        "DOUBLE", "The longest pause; empty without any.", unit="s", nullable=True, ge=0
    )
    hesitations: object = column(
        "INTEGER",
        "Fillers such as um and uh, as far as they were recognized; empty if the language is not English.",
        nullable=True,
        ge=0,
    )
    first_person_share: object = column(
        "DOUBLE",
        "Share of the words that are I, me, my, mine, myself; empty without words, or if the language is not English.",
        nullable=True,
        **SHARE,
    )
    pain_words: object = column(
        "INTEGER",
        "Words of the list of pain words (docs/words.md); empty if the language is not English.",
        nullable=True,
        ge=0,
    )
    pain_word_share: object = column(
        "DOUBLE",
        "Share of the words that are pain words; empty without words, or if the language is not English.",
        nullable=True,
        **SHARE,
    )
    embedding: object = column(
        "FLOAT[384]",
        "Sentence embedding of the whole text (all-MiniLM-L6-v2), of length 1; empty without words, or if the language is "
        "not English. As private as the text, which can be recovered from it to a large part.",
        nullable=True,
    )
    fingerprint: object = column("VARCHAR", "Fingerprint of the extraction.")


TEXT_MEASURES: tuple[str, ...] = (
    "words",
    "words_per_minute",
    "pause_share",
    "longest_pause_s",
    "first_person_share",
    "pain_word_share",
)
"""The columns of `text_features` that experiments take as predictors: no words, no embedding, and of the counts only how
much was said."""
