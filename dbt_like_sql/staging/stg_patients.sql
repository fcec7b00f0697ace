select
    patient_id,
    cohort,
    sex,
    skin_type,
    skin_group,
    age_group,
    pain_target,
    pain_level,
    case pain_level when 'None' then 1 when 'Low' then 2 when 'Moderate' then 3 else 4 end as level_number,
    case pain_level when 'None' then 'No Pain' else 'Pain' end as pain_class,
    enrolled_on,
    -- the one definition of who is analyzed; the paper leaves out patient 0009
    patient_id in (select patient_id from video_quality where usable) as analyzed,
    utc_offset_minutes
from patients
