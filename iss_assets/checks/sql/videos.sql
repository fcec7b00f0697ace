-- One row a video of the patient.
select video_id, duration_s, has_audio, status
from videos
where patient_id = $patient
order by video_id
