-- One row a survey of the patient, with the day on the patient's own calendar and whether its video came.
select
    s.submission_id,
    s.submitted_at,
    cast(s.submitted_at + to_minutes(coalesce(p.utc_offset_minutes, 0)) as date) as day,
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
left join patients as p on p.patient_id = s.patient_id
left join videos as v on v.video_id = s.submission_id and v.patient_id = s.patient_id
where s.patient_id = $patient
order by s.submitted_at, s.submission_id
