select
    t.patient_id,
    p.sex,
    p.pain_level,
    count(*) as videos,
    count(*) filter (where t.words > 0) as with_words,
    sum(t.words) as words,
    median(t.words) as words_per_video,
    median(t.words_per_minute) as words_per_minute,
    median(t.pause_share) as pause_share,
    median(t.hesitations_per_100_words) as hesitations_per_100_words,
    median(t.first_person_share) as first_person_share,
    median(t.pain_word_share) as pain_word_share
from text_over_time as t
inner join stg_patients as p on p.patient_id = t.patient_id
group by t.patient_id, p.sex, p.pain_level
order by t.patient_id
