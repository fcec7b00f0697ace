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
    where submitted_on is not null
    group by patient_id, study_week
),
undated as (
    select patient_id, count(*) as unknown_days
    from stg_submissions
    where submitted_on is null
    group by patient_id
),
compared as (
    select
        w.patient_id,
        w.study_week,
        w.week_start,
        w.week_start + 6 < w.last_day as complete,
        coalesce(c.submissions, 0) as submissions,
        coalesce(c.days, 0) as days,
        coalesce(u.unknown_days, 0) as unknown_days,
        3 as expected
    from weeks as w
    left join counted as c on c.patient_id = w.patient_id and c.study_week = w.study_week
    left join undated as u on u.patient_id = w.patient_id
)
select
    patient_id,
    study_week,
    week_start,
    complete,
    submissions,
    days,
    unknown_days,
    expected,
    case when complete then greatest(expected - days - unknown_days, 0) else 0 end as missing,
    case when days >= expected or unknown_days = 0 then least(days / expected, 1) end as adherence
from compared
order by patient_id, study_week
