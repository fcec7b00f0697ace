"""What the study folder's csv files hold, and what is wrong with them."""

from __future__ import annotations

from iss_assets.protocol import terms
from iss_assets.protocol.consent import ConsentState, Scope
from iss_assets.protocol.reviews import Decision
from iss_assets.schemas.base import PATIENT_ID, SUBMISSION_ID, Table, column


class Patients(Table):
    """One enrolled patient."""

    __table__ = "patients"
    __key__ = ("patient_id",)
    __partition__ = ("patient_id",)

    patient_id: object = column("VARCHAR", "Patient id of the study.", **PATIENT_ID)
    cohort: object = column(
        "VARCHAR", "Cohort 1A to 4D of the paper's Table 2.", isin=[c.number for c in terms.COHORTS]
    )
    sex: object = column("VARCHAR", "M or F.", isin=terms.SEXES)
    skin_type: object = column("VARCHAR", "Fitzpatrick skin type I to VI.", isin=terms.SKIN_TYPES)
    skin_group: object = column("VARCHAR", "light (I-III) or dark (IV-VI).", isin=terms.SKIN_GROUPS)
    pain_target: object = column(
        "INTEGER", "Worst pain of the thirty days before enrollment, fixed for the whole study.", ge=0, le=10
    )
    pain_level: object = column(
        "VARCHAR", "None (0), Low (1-3), Moderate (4-6), Severe (7-10).", isin=terms.PAIN_LEVELS
    )
    age_group: object = column(
        "VARCHAR", "adult or pediatric; empty where not known.", isin=terms.AGE_GROUPS, nullable=True
    )
    enrolled_on: object = column("DATE", "Day of enrollment.", nullable=True)
    utc_offset_minutes: object = column(
        "INTEGER",
        "The patient's UTC offset, used for times written without one.",
        unit="min",
        nullable=True,
        ge=-14 * 60,
        le=14 * 60,
    )


class BpiScores(Table):
    """One submission's nine answers of the Brief Pain Inventory."""

    __table__ = "bpi_scores"
    __key__ = ("submission_id",)
    __partition__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    submission_id: object = column("VARCHAR", "Submission id.", **SUBMISSION_ID)
    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    submitted_at: object = column(
        "TIMESTAMP WITH TIME ZONE",
        "Moment of submission; empty where no UTC offset is known.",
        nullable=True,
    )
    written_time: object = column(
        "TIMESTAMP",
        "The time as written in surveys.csv, without its offset.",
        nullable=True,
    )
    utc_offset_minutes: object = column(
        "INTEGER",
        "UTC offset of the check-in's local time; empty where unknown.",
        unit="min",
        nullable=True,
        ge=-14 * 60,
        le=14 * 60,
    )
    utc_offset_source: object = column(
        "VARCHAR",
        "Source of that offset: written with the time, else the patient's, else the study's, else unknown.",
        isin=terms.OFFSET_SOURCES,
        nullable=True,
    )
    submitted_on: object = column(
        "DATE", "Local day of the check-in; empty where its UTC offset is unknown.", nullable=True
    )
    timeframe: object = column(
        "VARCHAR",
        "Local time of day in four bins of six hours; empty where the UTC offset is unknown.",
        isin=terms.TIMEFRAMES,
        nullable=True,
    )
    setting: object = column("VARCHAR", "home or clinic.", isin=terms.SETTINGS, nullable=True)
    pain_now: object = column("INTEGER", "Question 1: pain right now.", ge=0, le=10, nullable=True)
    chronic_pain: object = column(
        "BOOLEAN", "Question 2: pain related to the cancer for more than three months.", nullable=True
    )
    general_activity: object = column(
        "INTEGER", "Question 3: interference with general activity.", ge=0, le=10, nullable=True
    )
    mood: object = column("INTEGER", "Question 4: interference with mood.", ge=0, le=10, nullable=True)
    walking_ability: object = column(
        "INTEGER", "Question 5: interference with walking ability.", ge=0, le=10, nullable=True
    )
    normal_work: object = column(
        "INTEGER", "Question 6: interference with normal work.", ge=0, le=10, nullable=True
    )
    relationships: object = column(
        "INTEGER", "Question 7: interference with relations with other people.", ge=0, le=10, nullable=True
    )
    sleep: object = column("INTEGER", "Question 8: interference with sleep.", ge=0, le=10, nullable=True)
    enjoyment_of_life: object = column(
        "INTEGER", "Question 9: interference with enjoyment of life.", ge=0, le=10, nullable=True
    )
    missing_scores: object = column("INTEGER", "How many of the nine answers are missing.", ge=0, le=9)


class Reviews(Table):
    """One decision of a person about a flag, a video, or a patient, from reviews.csv."""

    __table__ = "reviews"
    __key__ = ("patient_id", "line")
    __partition__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    line: object = column("INTEGER", "Line in reviews.csv.", ge=1)
    reviewed_at: object = column("TIMESTAMP WITH TIME ZONE", "Moment of the decision.")
    reviewer: object = column("VARCHAR", "Account of the person.")
    video_id: object = column("VARCHAR", "Video that it is about, if it is about one.", nullable=True)
    flag: object = column("VARCHAR", "Flag that it is about, if it is about one.", nullable=True)
    decision: object = column("VARCHAR", "What was decided.", isin=tuple(Decision))
    reason: object = column("VARCHAR", "Why, in the reviewer's words; may be empty.")
    contacted_on: object = column("DATE", "Day on which the patient was contacted.", nullable=True)
    assignee: object = column("VARCHAR", "Who takes care of the patient's open items.", nullable=True)


class Consent(Table):
    """What counts of one patient's consent in one scope, from consent.csv."""

    __table__ = "consent"
    __key__ = ("patient_id", "scope")
    __partition__ = ("patient_id",)
    __references__ = (("patient_id", "patients"),)

    patient_id: object = column("VARCHAR", "Patient id.", **PATIENT_ID)
    scope: object = column("VARCHAR", "What consent is given to.", isin=tuple(Scope))
    state: object = column(
        "VARCHAR", "given, withdrawn, or not_given: without a usable day.", isin=tuple(ConsentState)
    )
    given_on: object = column("DATE", "Day on which consent was given.", nullable=True)
    withdrawn_on: object = column("DATE", "Day on which it was withdrawn.", nullable=True)
    version: object = column("VARCHAR", "Version of the form that was signed.", nullable=True)
    unclear: object = column("BOOLEAN", "Whether something in the row was rejected; rejected_rows says what.")


class RejectedRows(Table):
    """One row or cell of the study folder's csv files, or one file, that could not be used."""

    __table__ = "rejected_rows"
    __key__ = ("file", "line", "code", "column_name")

    file: object = column("VARCHAR", "File, relative to the study folder.")
    line: object = column("INTEGER", "Line in the file, counted from 1; 0 for the whole file.", ge=0)
    column_name: object = column("VARCHAR", "Column with the problem; empty for the whole row or file.")
    patient_id: object = column("VARCHAR", "Patient id, if a valid one is known.", nullable=True)
    submission_id: object = column("VARCHAR", "Submission id, if a valid one is known.", nullable=True)
    code: object = column("VARCHAR", "Kind of problem, a fixed word.")
    reason: object = column("VARCHAR", "What is wrong and what to do; never quotes the value.")


class StudyProblems(Table):
    """One problem in the study folder that is reported although nothing was rejected."""

    __table__ = "study_problems"
    __key__ = ("file", "line", "code", "column_name")

    file: object = column("VARCHAR", "File, relative to the study folder.")
    line: object = column("INTEGER", "Line in the file, counted from 1; 0 for the whole file.", ge=0)
    column_name: object = column("VARCHAR", "Column with the problem; empty for the whole row or file.")
    patient_id: object = column("VARCHAR", "Patient id, if known.", nullable=True)
    submission_id: object = column("VARCHAR", "Submission id, if known.", nullable=True)
    code: object = column("VARCHAR", "Kind of problem, a fixed word.")
    reason: object = column("VARCHAR", "What is wrong and what to do; never quotes the value.")
