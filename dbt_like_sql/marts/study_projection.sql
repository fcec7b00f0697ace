select
    patients,
    greatest(112 - patients, 0) as patients_to_come,
    greatest(112 - patients, 0) * videos_per_patient as more_videos,
    greatest(112 - patients, 0) * frames_per_patient as more_frames,
    greatest(112 - patients, 0) * seconds_per_patient / 3600 as more_hours
from study_summary
