-- One row, the study: what it would hold once 112 patients are enrolled, if the patients to come send as much as those
-- seen so far (the paper's section 6: 1,456 more videos, 543,733 more frames).
--
-- materialized: table
-- column patients: Patients with frames so far. [not_null, range: 0..]
-- column patients_to_come: Patients up to 112. [not_null, range: 0..112]
-- column more_videos: Videos to come; empty before the first patient.
-- column more_frames: Frames to come.
-- column more_hours: Hours of video to come.
select
    patients,
    greatest(112 - patients, 0) as patients_to_come,
    greatest(112 - patients, 0) * videos_per_patient as more_videos,
    greatest(112 - patients, 0) * frames_per_patient as more_frames,
    greatest(112 - patients, 0) * seconds_per_patient / 3600 as more_hours
from study_summary
