-- One row per video of the patient with sound: its voice as a whole, and the flags of its quality.
select v.video_id, v.speech_s, v.f0_median_hz, coalesce(q.flags, []) as flags
from voice_features as v
left join video_quality as q on q.video_id = v.video_id
where v.patient_id = $patient and v.chunk_index = -1
order by v.video_id
