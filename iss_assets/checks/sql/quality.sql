-- One row per video of the patient whose quality was measured.
select video_id, frames, face_rate, landmark_rate, measures, flags, usable, unusable_reason
from video_quality
where patient_id = $patient
order by video_id
