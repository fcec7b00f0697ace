-- One row per patient, or one patient's row: the enrollment, the first day of the first week (from the enrollment, else
-- from the first survey), the day of the latest survey, and the latest day in the study.
select
    p.patient_id,
    p.cohort,
    p.sex,
    p.skin_type,
    p.skin_group,
    p.pain_target,
    p.pain_level,
    p.enrolled_on,
    coalesce(
        p.enrolled_on,
        (select min(s.submitted_on) from bpi_scores as s where s.patient_id = p.patient_id)
    ) as first_day,
    (select max(s.submitted_on) from bpi_scores as s where s.patient_id = p.patient_id) as newest_day,
    greatest(
        (select max(submitted_on) from bpi_scores),
        (select max(enrolled_on) from patients)
    ) as last_day
from patients as p
where p.patient_id = coalesce($patient, p.patient_id)
order by p.patient_id
