-- One row per Question 10 reading of the patient.
select
    video_id,
    prompt_id,
    prompt_known,
    text_read,
    read,
    cut_short,
    word_error_rate,
    share_read,
    words,
    exists (select 1 from prompts) as texts
from prompt_readings
where patient_id = $patient
order by video_id
