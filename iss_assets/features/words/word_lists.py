"""The word lists behind the text features, each with its source. English only.

No list of feelings is among them: sentiment lexicons take a shrinking tumor for bad news.
"""

from __future__ import annotations

from typing import Final

LANGUAGE: Final = "en"
"""The language of the lists; text features of other languages that need a list are empty."""

HESITATIONS: Final = frozenset({"uh", "uhh", "um", "umm", "uhm", "er", "erm", "hm", "hmm", "mm"})
"""Fillers. Clark and Fox Tree, "Using uh and um in spontaneous speaking", Cognition 84(1), 2002, and British spellings."""

FIRST_PERSON: Final = frozenset({"i", "me", "my", "mine", "myself"})
"""First person singular: the category "I" of Pennebaker, Chung, Ireland, Gonzales and Booth, "The Development and
Psychometric Properties of LIWC2007". Short forms (I'm, I've, I'd, I'll) count."""

_COMMON: Final = [
    "pain",
    "pains",
    "painful",
    "painfully",
    "painless",
    "ache",
    "aches",
    "ached",
    "aching",
    "achy",
    "headache",
    "headaches",
    "backache",
    "toothache",
    "stomachache",
    "earache",
    "hurt",
    "hurts",
    "hurting",
    "hurtful",
    "sore",
    "soreness",
    "tender",
    "tenderness",
    "discomfort",
    "uncomfortable",
    "agony",
    "agonizing",
    "torture",
    "excruciating",
    "unbearable",
    "suffer",
    "suffers",
    "suffered",
    "suffering",
]
"""Everyday words for pain and for having it."""

_SENSORY: Final = [
    "burning",
    "burns",
    "scalding",
    "searing",
    "throbbing",
    "throbs",
    "pounding",
    "pulsing",
    "beating",
    "shooting",
    "flashing",
    "flickering",
    "quivering",
    "stabbing",
    "sharp",
    "cutting",
    "lacerating",
    "drilling",
    "boring",
    "piercing",
    "pricking",
    "pinching",
    "pressing",
    "gnawing",
    "cramping",
    "cramps",
    "cramp",
    "crushing",
    "squeezing",
    "squeezes",
    "tugging",
    "pulling",
    "wrenching",
    "tingling",
    "tingles",
    "tingly",
    "itchy",
    "itching",
    "smarting",
    "stinging",
    "stings",
    "dull",
    "heavy",
    "taut",
    "rasping",
    "splitting",
    "radiating",
    "radiates",
    "spreading",
    "penetrating",
    "numb",
    "numbness",
]
"""What pain feels like: the sensory descriptors that Melzack and Torgerson collected ("On the language of pain",
Anesthesiology 34(1), 1971), in the forms in which people say them. Those that are mostly said of other things are left out:
hot, cold, cool, tight, drawing, jumping, tearing, freezing."""

PAIN_WORDS: Final = frozenset(_COMMON) | frozenset(_SENSORY)
"""Words of pain. They are counted wherever they are said: "no pain" counts too, and so does a heavy bag."""
