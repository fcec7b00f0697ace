-- One row per video of the patient, with whether its survey exists.
select v.video_id, s.submission_id is not null as has_survey
from videos as v
left join bpi_scores as s on s.submission_id = v.video_id and s.patient_id = v.patient_id
where v.patient_id = $patient
order by v.video_id
