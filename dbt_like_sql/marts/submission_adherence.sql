-- One row a patient and week of the study, against the three check-ins a week that the protocol asks for, at most one
-- a day (the paper's Table 3). Thirteen weeks, or as far as the study has come: its last submission or enrollment.
--
-- materialized: table
-- key: patient_id, study_week
-- column patient_id: Patient id. [not_null, relationships: patients.patient_id]
-- column study_week: Week from 1; enrollment is three months, thirteen weeks. [not_null, range: 1..13]
-- column week_start: First day of the week. [not_null]
-- column complete: Whether the whole week lies before the last day that the study has seen. [not_null]
-- column submissions: Submissions in the week. [not_null, range: 0..]
-- column days: Different days with a submission; more submissions on one day count once. [not_null, range: 0..7]
-- column expected: Days asked for. [not_null]
-- column missing: Days short of that in a complete week, 0 in a week that still runs. [not_null, range: 0..3]
-- column adherence: Days over days asked for, at most 1. [not_null, range: 0..1]
with seen as (
    select greatest(
        (select max(submitted_on) from stg_submissions),
        (select max(enrolled_on) from stg_patients)
    ) as last_day
),
starts as (
    select p.patient_id, coalesce(p.enrolled_on, min(s.submitted_on)) as started_on
    from stg_patients as p
    left join stg_submissions as s on s.patient_id = p.patient_id
    group by p.patient_id, p.enrolled_on
),
weeks as (
    select
        s.patient_id,
        w.range as study_week,
        s.started_on + cast((w.range - 1) * 7 as integer) as week_start,
        seen.last_day
    from starts as s
    cross join seen
    cross join range(1, 14) as w
    where s.started_on + cast((w.range - 1) * 7 as integer) <= seen.last_day
),
counted as (
    select patient_id, study_week, count(*) as submissions, count(distinct submitted_on) as days
    from stg_submissions
    group by patient_id, study_week
),
compared as (
    select
        w.patient_id,
        w.study_week,
        w.week_start,
        w.week_start + 6 < w.last_day as complete,
        coalesce(c.submissions, 0) as submissions,
        coalesce(c.days, 0) as days,
        3 as expected
    from weeks as w
    left join counted as c on c.patient_id = w.patient_id and c.study_week = w.study_week
)
select
    patient_id,
    study_week,
    week_start,
    complete,
    submissions,
    days,
    expected,
    case when complete then greatest(expected - days, 0) else 0 end as missing,
    least(days / expected, 1) as adherence
from compared
order by patient_id, study_week
