-- One row per flag and split of the study, by sex, skin group or age group: how often each group is flagged, as means over
-- patients, and by how much the difference exceeds twice its standard error.
with flags as (
    select distinct unnest(flags) as flag
    from video_quality
),
per_patient as (
    select q.patient_id, f.flag, avg(cast(list_contains(q.flags, f.flag) as integer)) as rate
    from video_quality as q
    cross join flags as f
    group by q.patient_id, f.flag
),
grouped as (
    select 'sex' as attribute, p.sex as group_name, r.*
    from per_patient as r
    inner join patients as p on p.patient_id = r.patient_id
    union all
    select 'skin', p.skin_group, r.*
    from per_patient as r
    inner join patients as p on p.patient_id = r.patient_id
    union all
    select 'age', p.age_group, r.*
    from per_patient as r
    inner join patients as p on p.patient_id = r.patient_id
    where p.age_group is not null
),
rates as (
    select
        attribute,
        group_name,
        flag,
        count(*) as patients,
        avg(rate order by rate) as rate,
        coalesce(var_samp(rate order by rate), 0) / count(*) as error
    from grouped
    group by attribute, group_name, flag
    having count(*) >= $group_patients
)
select
    a.attribute,
    a.flag,
    a.group_name as first_group,
    b.group_name as second_group,
    a.patients as first_patients,
    b.patients as second_patients,
    a.rate as first_rate,
    b.rate as second_rate,
    abs(a.rate - b.rate) - 2 * sqrt(a.error + b.error) as excess
from rates as a
inner join rates as b on b.attribute = a.attribute and b.flag = a.flag and b.group_name > a.group_name
order by a.attribute, a.flag
