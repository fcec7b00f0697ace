-- `sent` is that of `check_in_order.sent`: without a known offset, as if sent where the patient was at the check-in next to it
with clocks as (
    select
        submission_id,
        patient_id,
        written_time,
        submitted_at at time zone 'UTC' as moment,
        utc_offset_minutes,
        submitted_at at time zone 'UTC' + to_minutes(utc_offset_minutes) as clock
    from bpi_scores
),
nearest as (
    select
        s.submission_id,
        arg_min(k.utc_offset_minutes, (abs(epoch(k.clock) - epoch(s.written_time)), k.clock)) as utc_offset_minutes
    from clocks as s
    inner join clocks as k on k.patient_id = s.patient_id
    where s.moment is null and k.clock is not null
    group by s.submission_id
),
local as (
    select
        s.submission_id,
        s.patient_id,
        s.submitted_at,
        c.clock as submitted_local,
        coalesce(c.moment, c.written_time - to_minutes(coalesce(n.utc_offset_minutes, 0))) as sent,
        s.utc_offset_minutes,
        s.utc_offset_source,
        s.submitted_on,
        p.enrolled_on,
        s.timeframe,
        s.setting,
        s.missing_scores
    from bpi_scores as s
    inner join clocks as c on c.submission_id = s.submission_id
    left join nearest as n on n.submission_id = s.submission_id
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
    sent,
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
