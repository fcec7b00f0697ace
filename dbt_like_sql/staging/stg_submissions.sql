-- One row a submission, on the patient's own calendar: day and week of the study. Weeks run from the day of
-- enrollment; where that is not known, from the first submission.
--
-- materialized: view
-- column submission_id: Submission id. [unique, not_null]
-- column patient_id: Patient id. [not_null, relationships: patients.patient_id]
-- column submitted_at: Moment of submission. [not_null]
-- column submitted_on: Day of submission where the patient lives. [not_null]
-- column started_on: Day of enrollment, else of the first submission. [not_null]
-- column study_day: Days since the start, 0 on the first; below 0 for a submission before enrollment. [not_null]
-- column study_week: Week of the study from 1; below 1 for a submission before enrollment. [not_null]
-- column timeframe: Time of day, four bins. [accepted_values: early AM, late AM, early PM, late PM]
-- column setting: home or clinic. [accepted_values: home, clinic]
-- column missing_scores: How many of the nine answers are missing. [range: 0..9]
with local as (
    select
        s.submission_id,
        s.patient_id,
        s.submitted_at,
        cast(s.submitted_at at time zone 'UTC' + to_minutes(p.utc_offset_minutes) as date) as submitted_on,
        p.enrolled_on,
        s.timeframe,
        s.setting,
        s.missing_scores
    from bpi_scores as s
    inner join stg_patients as p on p.patient_id = s.patient_id
),
started as (
    select *, coalesce(enrolled_on, min(submitted_on) over (partition by patient_id)) as started_on
    from local
)
select
    submission_id,
    patient_id,
    submitted_at,
    submitted_on,
    started_on,
    date_diff('day', started_on, submitted_on) as study_day,
    cast(floor(date_diff('day', started_on, submitted_on) / 7.0) as bigint) + 1 as study_week,
    timeframe,
    setting,
    missing_scores
from started
