select
    r.patient_id,
    r.video_id,
    s.submitted_on,
    s.study_day,
    b.pain_now,
    r.prompt_id,
    r.text_read,
    r.read,
    r.cut_short,
    r.word_error_rate,
    r.share_read,
    r.words
from prompt_readings as r
left join stg_submissions as s on s.submission_id = r.video_id
left join bpi_scores as b on b.submission_id = r.video_id
order by r.patient_id, s.submitted_on, r.video_id
