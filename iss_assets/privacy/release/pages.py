"""What people read in a release: the data card, the agreement, and the list of what is withheld."""

from __future__ import annotations

import csv
import io

from iss_assets.privacy.release.columns import Tier
from iss_assets.privacy.release.metadata import (
    Description,
    recognition_sentences,
    responsible_ai,
    software,
    summary_of,
)

LANDMARKS_WARNING = (
    "Face meshes are in this release. They are no pictures, but a mesh is the shape of a face: whoever has other meshes or "
    "pictures of the same people may find them here. The figures below say how well that works within this study."
)


def data_card(d: Description) -> str:
    """Return the data card in Markdown."""
    facts, ai = d.facts, responsible_ai(d)
    there = {(t.table.__table__, c.name) for t in d.tables for c in t.columns}
    lines = [f"# {_line(facts.title)}", "", summary_of(d), ""]
    if ("landmarks", "points") in there and d.tier is Tier.registered:
        lines += [f"> {LANDMARKS_WARNING}", ""]
    lines += [
        "| | |",
        "|---|---|",
        *(
            f"| {name} | {_line(value)} |"
            for name, value in (
                ("Made by", facts.creator),
                ("Published by", facts.publisher),
                ("Version", f"{facts.version}, published {facts.date_published}"),
                ("Tier", str(d.tier)),
                ("Agreement", d.agreement),
                ("License", facts.license),
                ("Ethics approval", facts.ethics_approval),
                ("Cite as", facts.citation),
                ("Web page", facts.url),
                ("Contact", facts.contact),
                ("Made with", software()),
            )
        ),
        "",
        "## How well patients can be recognized",
        "",
        *(f"- {line}" for line in recognition_sentences(d)),
        "",
        "These are the study's own patients and a simple attacker; somebody who knows more may do better. Names, faces and "
        "voices outside the study were not tried.",
        "",
        "## What is in it",
        "",
        "| table | one row | rows | columns left out |",
        "|---|---|---:|---|",
        *(
            f"| `{t.table.__table__}` | {t.table.grain()} | {t.rows} | {', '.join(t.left_out) or 'none'} |"
            for t in d.tables
        ),
        "",
        "`datapackage.json` explains every column, `withheld.csv` says what is not here and why. `iss_assets.load` reads this "
        'folder like a study: `load.training_set("forest_pain", home="this folder")`.',
        "",
        "## How it was made",
        "",
        *_paragraphs(
            ai, ("rai:dataCollection", "rai:dataPreprocessingProtocol", "rai:dataAnnotationProtocol")
        ),
        *_paragraphs(ai, ("rai:machineAnnotationTools", "rai:dataCollectionMissingData")),
        "## Limits",
        "",
        *_paragraphs(ai, ("rai:dataBiases", "rai:dataLimitations", "rai:personalSensitiveInformation")),
        "## Use",
        "",
        *_paragraphs(ai, ("rai:dataUseCases", "rai:dataReleaseMaintenancePlan")),
        "Two recipients who put their releases together can match rows by the measures themselves, whatever the pseudonyms are. "
        "A release cannot be recalled.",
        "",
    ]
    return "\n".join(lines)


def agreement_page(d: Description) -> str:
    """Return the terms under which the recipient has the data."""
    lines = [
        f"# Agreement {_line(d.agreement)}",
        "",
        f"- Data: {_line(d.facts.title)}, version {d.facts.version}, {d.tier} tier",
        *([f"- Recipient: {_line(d.recipient)}"] if d.recipient else []),
        *([f"- Purpose: {_line(d.purpose)}"] if d.purpose else []),
        f"- License or terms of use: {d.facts.license}",
        f"- Contact: {d.facts.contact}",
        "",
        "Whoever uses these data",
        "",
        "1. does not try to find out who a patient is, and does not link the data with others for that end;",
        "2. reports to the contact if somebody was recognized by accident;",
        "3. deletes what belongs to a pseudonym when the contact asks for it, because the patient has withdrawn;",
    ]
    if d.tier is Tier.open:
        lines += ["4. cites the data set."]
    else:
        lines += [
            "4. passes them on to nobody, and keeps them where only people under this agreement can read them;",
            "5. cites the data set, and deletes all copies when the purpose is fulfilled.",
        ]
    return "\n".join([*lines, ""])


def withheld_table(d: Description) -> str:
    """Return what is withheld as csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "what", "why"])
    writer.writerows((w.table, w.what, w.why) for w in d.withheld)
    return text.getvalue()


def _paragraphs(ai: dict[str, object], names: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    for name in names:
        value = ai.get(name)
        if isinstance(value, list):
            lines += [*(f"- {_line(str(v))}" for v in value), ""]
        elif value:
            lines += [str(value), ""]
    return lines


def _line(text: str) -> str:
    """Return text that stays in one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
