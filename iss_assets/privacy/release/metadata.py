"""What a release says about itself to programs: frictionless, RO-Crate and Croissant, from what is recorded.

No value is typed by hand or left empty: facts about the study come from the settings, and a missing one stops the release;
everything else is counted or taken from the tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from iss_assets.evaluation.reidentification import Recognition
from iss_assets.privacy.audit import sha256_of
from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.errors import ReleaseError
from iss_assets.privacy.release.tables import Withheld, WrittenTable
from iss_assets.privacy.sharing import Sharing
from iss_assets.protocol import terms
from iss_assets.settings import ReleaseSettings, Settings
from iss_assets.version import installed_version
from iss_assets.warehouse.export import (
    SourceColumn,
    TableSource,
    describe_resource,
    link_resources,
)

FACTS: Final = (
    "title",
    "creator",
    "publisher",
    "contact",
    "url",
    "license",
    "citation",
    "ethics_approval",
    "date_published",
    "use_cases",
)
"""Settings that a release cannot do without."""

_CROISSANT_TYPES: Final = {
    "VARCHAR": "sc:Text",
    "VARCHAR[]": "sc:Text",
    "INTEGER": "sc:Integer",
    "BIGINT": "sc:Integer",
    "FLOAT": "sc:Float",
    "DOUBLE": "sc:Float",
    "FLOAT[1404]": "sc:Float",
    "FLOAT[]": "sc:Float",
    "BOOLEAN": "sc:Boolean",
    "DATE": "sc:Date",
    "TIMESTAMP": "sc:DateTime",
    "TIMESTAMP WITH TIME ZONE": "sc:DateTime",
}
"""Croissant's types. Pictures, sound and spectrograms are in the Parquet files and described in ``datapackage.json``."""

_TOOLS: Final = {
    "faces": ("facenet-pytorch", "MTCNN found the faces"),
    "landmarks": ("mediapipe", "Face Mesh found the landmarks"),
    "audio_features": ("librosa", "computed the audio features"),
    "voice_features": ("afx-audio", "measured pitch and loudness"),
    "embeddings": ("torch", "computed the embeddings; the column `weights_origin` names the network"),
}


@dataclass(frozen=True)
class Description:
    """Everything that the metadata and the pages of one release are made from.

    Attributes
    ----------
    tables : tuple of WrittenTable
        The files.
    counts : dict of str to int
        What was counted in the release: ``patients``, ``submissions``, ``videos``, ``usable``, ``missing_answers``.
    groups : dict of str to dict
        Column of ``patients`` to value to number of patients, as released.
    recognition : tuple of Recognition
        How well patients can be recognized from this release.
    withheld : tuple of Withheld
        What is not in it, and why.
    """

    tier: Tier
    settings: Settings
    agreement: str
    recipient: str
    purpose: str
    sharing: Sharing
    smallest: int
    tables: tuple[WrittenTable, ...]
    counts: Mapping[str, int]
    groups: Mapping[str, Mapping[str, int]]
    recognition: tuple[Recognition, ...]
    withheld: tuple[Withheld, ...]

    @property
    def facts(self) -> ReleaseSettings:
        """The facts about the study that were set."""
        return self.settings.release

    @property
    def names(self) -> set[str]:
        """Names of the tables."""
        return {t.table.__table__ for t in self.tables}


def check_facts(settings: ReleaseSettings) -> None:
    """Check that every fact is known.

    Raises
    ------
    ReleaseError
        If some are not, with the name of each setting.
    """
    missing = [f"ISS_RELEASE__{name.upper()}" for name in FACTS if not str(getattr(settings, name)).strip()]
    if missing:
        raise ReleaseError(f"a release needs these facts about the study; set {', '.join(missing)}")


def software() -> str:
    """Return the name and version of this program."""
    return f"iss-assets {installed_version()}"


def summary_of(d: Description) -> str:
    """Return what the release is in two sentences."""
    about = f"{d.counts['patients']} patients"
    if "videos" in d.counts:
        about += f", {d.counts['submissions']} check-ins and {d.counts['videos']} videos"
    consents = left_out_of(d.sharing)
    return (
        f"Pseudonymized data of a clinical study of pain with {about}, {d.tier} tier. Dates are shifted per patient by whole "
        f"weeks. {consents}"
    )


def left_out_of(sharing: Sharing) -> str:
    """Say how many patients are left out, and why."""
    number = f"{sharing.left_out} patient{'' if sharing.left_out == 1 else 's'}"
    if sharing.recorded:
        return f"Left out: {number} without consent for sharing."
    withdrew = f" Left out: {number} who withdrew from sharing." if sharing.left_out else ""
    return f"The study has no consent table: no patient was left out for want of consent.{withdrew}"


def datapackage(d: Description) -> dict[str, Any]:
    """Return the data dictionary (frictionless) of the tables."""
    exported = [t.table.__table__ for t in d.tables]
    resources = []
    for written in d.tables:
        table = written.table
        columns = tuple(
            SourceColumn(c.name, c.sql, c.description, c.nullable or c.name in written.may_be_empty, c.unit)
            for c in written.columns
        )
        key = table.__key__ if set(table.__key__) <= {c.name for c in columns} else ()
        source = TableSource(table.__table__, table.grain(), columns, key, _references(written))
        resources.append(
            describe_resource(
                source, list(columns), list(written.left_out), written.path, written.rows, exported, set()
            )
        )
    link_resources(resources)
    return {
        "name": "iss-release",
        "title": d.facts.title,
        "description": summary_of(d),
        "version": d.facts.version,
        "homepage": d.facts.url,
        "licenses": [{"name": "terms-of-use", "path": d.facts.license}],
        "contributors": [
            {"title": d.facts.creator, "role": "author"},
            {"title": d.facts.publisher, "role": "publisher"},
            {"title": d.facts.contact, "email": d.facts.contact, "role": "maintainer"},
        ],
        "keywords": keywords(d),
        "resources": resources,
    }


def _references(written: WrittenTable) -> tuple[tuple[str, str], ...]:
    there = {c.name for c in written.columns}
    return tuple((column, table) for column, table in written.table.__references__ if column in there)


def keywords(d: Description) -> list[str]:
    """Return what the release can be found by."""
    words = ["pain", "clinical study", "patient-reported outcomes"]
    words += ["face landmarks"] * ("landmarks" in d.names) + ["voice"] * ("audio_features" in d.names)
    return words


def croissant(d: Description, files: Sequence[Path]) -> dict[str, Any]:
    """Return the Croissant 1.0 description with the fields of its responsible-AI extension."""
    tables = {t.path.name: t for t in d.tables}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": d.facts.title,
        "description": summary_of(d),
        "version": d.facts.version,
        "url": d.facts.url,
        "license": d.facts.license,
        "creator": {"@type": "sc:Organization", "name": d.facts.creator, "email": d.facts.contact},
        "publisher": {"@type": "sc:Organization", "name": d.facts.publisher},
        "datePublished": d.facts.date_published,
        "citeAs": d.facts.citation,
        "keywords": keywords(d),
        **responsible_ai(d),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": path.name,
                "name": path.name,
                "description": tables[path.name].table.grain(),
                "contentUrl": path.name,
                "contentSize": f"{path.stat().st_size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": sha256_of(path),
            }
            for path in files
        ],
        "recordSet": [_record_set(t) for t in d.tables] + _splits(d),
    }


def _record_set(written: WrittenTable) -> dict[str, Any]:
    name = written.table.__table__
    key = [k for k in written.table.__key__ if k in {c.name for c in written.columns}]
    fields = []
    for column in written.columns:
        if column.sql not in _CROISSANT_TYPES:
            continue
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"{name}/{column.name}",
            "name": column.name,
            "description": column.description,
            "dataType": _CROISSANT_TYPES[column.sql],
            "source": {"fileObject": {"@id": written.path.name}, "extract": {"column": column.name}},
        }
        if column.sql.endswith("]"):
            field["repeated"] = True
        if (name, column.name) != ("cv_splits", "split") and column.name == "split":
            field["references"] = {"field": {"@id": "splits/split"}}
        fields.append(field)
    described = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": written.table.grain()}
    # an empty key would say that there is at most one row
    keys = {"key": [{"@id": f"{name}/{k}"} for k in key]} if len(key) == len(written.table.__key__) else {}
    return {**described, **keys, "field": fields}


def _splits(d: Description) -> list[dict[str, Any]]:
    """Return the folds as Croissant's own kind of record set, if the release has them."""
    found = sorted({int(n) for n in d.groups.get("split", {})})
    if not found:
        return []
    return [
        {
            "@type": "cr:RecordSet",
            "@id": "splits",
            "name": "splits",
            "description": "Folds of the cross-validation: the patients of a split are tested together (cv_splits).",
            "dataType": "cr:Split",
            "key": {"@id": "splits/split"},
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": "splits/split",
                    "name": "split",
                    "description": "Number of the split.",
                    "dataType": "sc:Integer",
                }
            ],
            "data": [{"splits/split": number} for number in found],
        }
    ]


def responsible_ai(d: Description) -> dict[str, Any]:
    """Return the fields of Croissant's responsible-AI extension, counted or taken from the settings."""
    s, n = d.settings, d.counts
    processing = [
        "Ids are replaced by pseudonyms from a key that stays with the study; dates are shifted per patient by whole weeks; "
        f"every combination of quasi-identifiers is shared by at least {d.smallest} patients."
    ]
    if "frames" in d.names:
        processing.append(f"Videos are sampled at {s.video.fps:g} frames per second by presentation time.")
    if "faces" in d.names:
        processing.append(f"Faces are cropped to {s.faces.image_size} x {s.faces.image_size} pixels.")
    if "audio_features" in d.names:
        processing.append(
            f"Sound is mono at {s.audio.sample_rate} Hz; features are means over {s.audio.chunk_seconds:g}-second chunks"
            + (
                " and whole videos."
                if d.tier is Tier.controlled
                else "; only those of whole videos are released."
            )
        )
    found: dict[str, Any] = {
        "rai:dataCollection": "Patients answered nine questions of the Brief Pain Inventory and recorded a spoken narrative "
        f"with their own device, up to {terms.WEEKLY_SUBMISSIONS} times a week, at home or in the clinic. "
        f"{d.facts.ethics_approval}",
        "rai:dataCollectionType": ["Surveys", "Self-recorded video"],
        "rai:dataPreprocessingProtocol": processing,
        "rai:dataAnnotationProtocol": "The pain level is the patient's own: the worst pain of the thirty days before enrollment "
        "on a scale from 0 to 10. No other person annotated it.",
        "rai:dataUseCases": d.facts.use_cases,
        "rai:dataBiases": [f"Patients by {c.replace('_', ' ')}: {_listed(g)}." for c, g in d.groups.items()],
        "rai:dataLimitations": _limitations(d),
        "rai:dataSocialImpact": " ".join(recognition_sentences(d)),
        "rai:personalSensitiveInformation": _sensitive(d),
        "rai:dataReleaseMaintenancePlan": "Patients may withdraw at any time; recipients are asked to delete what belongs to a "
        f"pseudonym and must do so. Questions and requests: {d.facts.contact}.",
    }
    if "missing_answers" in n:
        found["rai:dataCollectionMissingData"] = (
            f"{n['missing_answers']} of {n['submissions'] * len(terms.SCORES)} answers are missing."
        )
    if tools := [
        f"{package} {metadata.version(package)}: {what}"
        for name, (package, what) in _TOOLS.items()
        if name in d.names
    ]:
        found["rai:machineAnnotationTools"] = tools
    return found


def _limitations(d: Description) -> list[str]:
    lines = []
    if "videos" in d.counts:
        lines.append(f"{d.counts['usable']} of {d.counts['videos']} videos were judged usable for training.")
    lines += [
        f"Withheld from {w.table}: {w.what} ({w.why})."
        for w in d.withheld
        if w.table == "patients" and " " in w.what
    ]
    lines.append(f"{len(d.withheld)} tables, columns or values are withheld; withheld.csv lists them.")
    return lines


def _sensitive(d: Description) -> list[str]:
    kept = [
        c for c, g in d.groups.items() if c not in ("split", "pain_level") and any(v != "withheld" for v in g)
    ]
    lines = ["Health: pain levels" + (" and answers about pain." if "bpi_scores" in d.names else ".")]
    lines += [f"Attributes of patients: {', '.join(kept)}."] if kept else []
    media = [
        ("faces", "crop", "faces"),
        ("audio", "waveform", "voices"),
        ("landmarks", "points", "face meshes"),
    ]
    there = {(t.table.__table__, c.name) for t in d.tables for c in t.columns}
    shown = [what for table, column, what in media if (table, column) in there]
    return lines + ([f"Biometric: {', '.join(shown)}."] if shown else [])


def recognition_sentences(d: Description) -> list[str]:
    """Return what was measured about recognizing patients, in sentences."""
    if not d.recognition:
        return ["This release has no features of single videos from which to recognize a patient."]
    lines = []
    for r in d.recognition:
        if r.identified is None:
            lines.append(f"Recognition from {r.features} was not measured: {r.note}.")
            continue
        lines.append(
            f"From {r.features}, {r.identified:.1%}{_interval(r.identified_low, r.identified_high)} of {r.videos} videos were "
            f"assigned to the right one of {r.patients} patients by {r.attacker} (chance {r.chance:.1%}); two videos of one "
            f"patient were closer than videos of two patients in {r.verified:.1%}"
            f"{_interval(r.verified_low, r.verified_high)} of comparisons (chance 50.0%)."
        )
    return lines


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.1%} to {high:.1%})"


def _listed(group: Mapping[str, int]) -> str:
    return ", ".join(f"{value} {count}" for value, count in group.items())


def ro_crate(d: Description, files: Sequence[Path]) -> dict[str, Any]:
    """Return the RO-Crate 1.1 description of every file."""
    described = {t.path.name: t.table.grain() for t in d.tables}
    parts = [
        {
            "@id": path.name,
            "@type": "File",
            "name": path.name,
            "description": described.get(path.name, _OTHER_FILES.get(path.name, path.name)),
            "contentSize": str(path.stat().st_size),
            "encodingFormat": _MEDIA_TYPES[path.suffix],
            "sha256": sha256_of(path),
        }
        for path in files
    ]
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [
            {
                "@id": "ro-crate-metadata.json",
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": d.facts.title,
                "description": summary_of(d),
                "version": d.facts.version,
                "url": d.facts.url,
                "datePublished": d.facts.date_published,
                "license": {"@id": d.facts.license},
                "creator": {"@id": "#creator"},
                "publisher": {"@id": "#publisher"},
                "contactPoint": {"@id": f"mailto:{d.facts.contact}"},
                "creditText": d.facts.citation,
                "conditionsOfAccess": f"{d.tier} tier, agreement {d.agreement}",
                "hasPart": [{"@id": path.name} for path in files],
            },
            {"@id": d.facts.license, "@type": "CreativeWork", "name": "License or terms of use"},
            {"@id": "#creator", "@type": "Organization", "name": d.facts.creator},
            {"@id": "#publisher", "@type": "Organization", "name": d.facts.publisher},
            {
                "@id": f"mailto:{d.facts.contact}",
                "@type": "ContactPoint",
                "contactType": "questions about the data, and withdrawals",
                "email": d.facts.contact,
            },
            {
                "@id": "#made-by",
                "@type": "CreateAction",
                "name": "Release of the study's tables",
                "instrument": {"@id": "#software"},
                "result": {"@id": "./"},
            },
            {
                "@id": "#software",
                "@type": "SoftwareApplication",
                "name": "iss-assets",
                "version": installed_version(),
            },
            *parts,
        ],
    }


_OTHER_FILES: Final = {
    "datapackage.json": "Data dictionary of the tables (frictionless).",
    "croissant.json": "Description for machine learning (Croissant).",
    "README.md": "Data card for people.",
    "AGREEMENT.md": "Terms under which the data may be used.",
    "withheld.csv": "What is not in the release, and why.",
}
_MEDIA_TYPES: Final = {
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".md": "text/markdown",
    ".csv": "text/csv",
}

_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of Croissant 1.0, as its specification prints it."""


def as_json(content: Mapping[str, Any]) -> str:
    """Return JSON that is the same for the same content.

    Raises
    ------
    ReleaseError
        If a value is empty: nothing is described by nothing.
    """
    if empty := list(_empty(content, "")):
        raise ReleaseError(f"the metadata would have empty values: {', '.join(empty)}")
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _empty(value: Any, place: str) -> list[str]:
    if isinstance(value, dict):
        # data and missing values of a column are content, not descriptions
        return [
            p for n, v in value.items() if n not in ("missingValues",) for p in _empty(v, f"{place}/{n}")
        ] + ([] if value else [place])
    if isinstance(value, list):
        return [p for number, v in enumerate(value) for p in _empty(v, f"{place}/{number}")] + (
            [] if value else [place]
        )
    return [place] if value is None or (isinstance(value, str) and not value.strip()) else []
