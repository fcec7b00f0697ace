-- One row per video of the patient whose behavior was measured.
select video_id, measured, away_share
from face_behavior_summary
where patient_id = $patient and chunk_index = -1
order by video_id
