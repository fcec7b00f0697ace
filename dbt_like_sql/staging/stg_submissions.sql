with local as (
    select
        s.submission_id,
        s.patient_id,
        s.submitted_at,
        s.submitted_at at time zone 'UTC' + to_minutes(s.utc_offset_minutes) as submitted_local,
        s.utc_offset_minutes,
        s.utc_offset_source,
        s.submitted_on,
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
    submitted_local,
    utc_offset_minutes,
    utc_offset_source,
    submitted_on,
    started_on,
    date_diff('day', started_on, submitted_on) as study_day,
    cast(floor(date_diff('day', started_on, submitted_on) / 7.0) as bigint) + 1 as study_week,
    timeframe,
    setting,
    missing_scores
from started
