select
    t.patient_id,
    t.video_id,
    s.submitted_on,
    s.study_day,
    b.pain_now,
    t.words,
    t.words_per_minute,
    t.pause_share,
    t.longest_pause_s,
    t.hesitations / nullif(t.words, 0) * 100 as hesitations_per_100_words,
    t.first_person_share,
    t.pain_word_share
from text_features as t
left join stg_submissions as s on s.submission_id = t.video_id
left join bpi_scores as b on b.submission_id = t.video_id
order by t.patient_id, s.submitted_on, t.video_id
