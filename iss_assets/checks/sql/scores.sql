-- One row per survey of the patient, with its local day and whether its video exists. The day is empty where no UTC offset is
-- known; such surveys come last.
select
    s.submission_id,
    s.submitted_at,
    s.submitted_on as day,
    s.pain_now,
    s.chronic_pain,
    s.general_activity,
    s.mood,
    s.walking_ability,
    s.normal_work,
    s.relationships,
    s.sleep,
    s.enjoyment_of_life,
    s.missing_scores,
    v.video_id is not null as has_video
from bpi_scores as s
left join videos as v on v.video_id = s.submission_id and v.patient_id = s.patient_id
where s.patient_id = $patient
order by s.submitted_at nulls last, s.written_time, s.submission_id
