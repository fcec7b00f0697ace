-- One row: the patient's enrollment, and the last day that the study has seen.
select
    p.patient_id,
    p.cohort,
    p.sex,
    p.skin_type,
    p.skin_group,
    p.pain_target,
    p.pain_level,
    p.enrolled_on,
    greatest(
        (select max(submitted_on) from bpi_scores),
        (select max(enrolled_on) from patients)
    ) as last_day
from patients as p
where p.patient_id = $patient
