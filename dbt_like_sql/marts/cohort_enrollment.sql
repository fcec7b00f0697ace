with levels (digit, pain_target, pain_level) as (
    values ('1', '0', 'None'), ('2', '1-3', 'Low'), ('3', '4-6', 'Moderate'), ('4', '7-10', 'Severe')
),
groups (letter, skin_types, sex) as (
    values ('A', 'I-III', 'M'), ('B', 'I-III', 'F'), ('C', 'IV-VI', 'M'), ('D', 'IV-VI', 'F')
),
cohorts as (
    select digit || letter as cohort, pain_target, skin_types, sex, pain_level, 7 as goal
    from levels
    cross join groups
),
enrolled as (
    select
        cohort,
        count(*) as current,
        count(*) filter (where age_group = 'adult') as adult,
        count(*) filter (where age_group = 'pediatric') as pediatric
    from stg_patients
    group by cohort
)
select
    c.cohort,
    c.pain_target,
    c.skin_types,
    c.sex,
    c.pain_level,
    c.goal,
    coalesce(e.current, 0) as current,
    greatest(c.goal - coalesce(e.current, 0), 0) as to_go,
    -- empty in a study that does not say who is an adult
    case when (select count(age_group) from stg_patients) > 0 then coalesce(e.adult, 0) end as adult,
    case when (select count(age_group) from stg_patients) > 0 then coalesce(e.pediatric, 0) end as pediatric
from cohorts as c
left join enrolled as e on e.cohort = c.cohort
order by c.cohort
