-- One row per video of the patient and other video, of any patient, that is the same file.
select v.video_id, o.video_id as other_video_id, o.patient_id as other_patient_id
from videos as v
inner join videos as o on o.sha256 = v.sha256 and o.video_id <> v.video_id
where v.patient_id = $patient and v.bytes > 0
order by v.video_id, o.video_id
