-- One row a cohort of the paper's Table 2: goal, current number of patients, still to enroll. Counts every enrolled
-- patient, also one whose data turn out unusable.
--
-- materialized: table
-- column cohort: Cohort number, 1A to 4D. [unique, not_null]
-- column pain_target: Range of the pain target. [not_null]
-- column skin_types: Range of Fitzpatrick skin types. [not_null]
-- column sex: M or F. [not_null, accepted_values: M, F]
-- column pain_level: Level of the pain target. [not_null, accepted_values: None, Low, Moderate, Severe]
-- column goal: Patients wanted: seven in each cohort. [not_null]
-- column current: Patients enrolled. [not_null, range: 0..]
-- column to_go: Patients still to enroll, 0 when the goal is reached. [not_null, range: 0..7]
-- test every_patient_counts: select 1 where (select sum(current) from {this}) <> (select count(*) from patients)
-- test sixteen_cohorts: select 1 where (select count(*) from {this}) <> 16
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
    select cohort, count(*) as current
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
    greatest(c.goal - coalesce(e.current, 0), 0) as to_go
from cohorts as c
left join enrolled as e on e.cohort = c.cohort
order by c.cohort
