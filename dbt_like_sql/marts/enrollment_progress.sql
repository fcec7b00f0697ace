with enrollments as (
    select enrolled_on
    from stg_patients
    where enrolled_on is not null
),
seen as (
    select
        count(*) as patients,
        min(enrolled_on) as first_day,
        greatest(max(enrolled_on), (select max(submitted_on) from stg_submissions)) as last_day
    from enrollments
),
paced as (
    select
        *,
        date_trunc('month', first_day) as first_month,
        date_trunc('month', last_day) as last_month,
        -- one patient, or less than four weeks, give no rate
        case
            when patients >= 2 and date_diff('day', first_day, last_day) >= 28
                then patients / date_diff('day', first_day, last_day) * 30.4375
        end as pace
    from seen
    where patients > 0
),
-- the projection ends after twenty years
months as (
    select
        cast(p.first_month + to_months(cast(m.range as integer)) as date) as month,
        p.*
    from paced as p
    cross join range(0, 600) as m
    where p.first_month + to_months(cast(m.range as integer)) <= p.last_month + to_months(240)
),
counted as (
    select
        m.month,
        m.month <= m.last_month as is_seen,
        m.patients,
        m.last_day,
        m.pace,
        count(e.enrolled_on) filter (where cast(date_trunc('month', e.enrolled_on) as date) = m.month) as enrolled,
        count(e.enrolled_on) as total
    from months as m
    left join enrollments as e on e.enrolled_on < m.month + to_months(1)
    group by m.month, m.last_month, m.patients, m.last_day, m.pace
),
dated as (
    select
        *,
        cast(month + to_months(1) as date) - 1 as month_end,
        last_day + cast(ceil((112 - patients) / nullif(pace, 0) * 30.4375) as integer) as goal_day
    from counted
),
projected as (
    select
        *,
        patients + pace * date_diff('day', last_day, month - 1) / 30.4375 as at_start,
        patients + pace * date_diff('day', last_day, month_end) / 30.4375 as at_end
    from dated
)
select
    month,
    case when is_seen then 'seen' else 'projected' end as kind,
    case when is_seen then enrolled end as enrolled,
    case when is_seen then total else least(at_end, 112) end as total,
    case when is_seen then least(month_end, last_day) else least(month_end, goal_day) end as as_of,
    112 as goal,
    pace
from projected
where
    is_seen
    -- up to and including the month in which the goal is reached
    or (pace > 0 and patients < 112 and at_start < 112)
order by month
