-- One row per pain level with answered submissions: mean over its patients of their mean pain right now.
with per_patient as (
    select p.patient_id, p.pain_level, avg(s.pain_now) as pain_now
    from patients as p
    inner join bpi_scores as s on s.patient_id = p.patient_id
    where s.pain_now is not null
    group by p.patient_id, p.pain_level
)
select
    case pain_level when 'None' then 1 when 'Low' then 2 when 'Moderate' then 3 else 4 end as level_number,
    pain_level,
    count(*) as patients,
    avg(pain_now order by pain_now) as pain_now
from per_patient
group by pain_level
having count(*) >= $group_patients
order by level_number
