-- One row per video of the patient with sound: what the recognition made of it (never what was said), and the flags of its quality.
select t.video_id, t.words, t.language, t.speech_s, t.wordless_s, coalesce(q.flags, []) as flags
from transcripts as t
left join video_quality as q on q.video_id = t.video_id
where t.patient_id = $patient
order by t.video_id
