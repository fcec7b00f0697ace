-- One row per video of the patient with words or figures about them: how the tables of words fit together (never what was said).
with word_times as (
    select
        video_id,
        word_index,
        start_s,
        end_s,
        lag(start_s) over (partition by video_id order by word_index) - start_s as back_s
    from transcript_words
    where patient_id = $patient
),
words as (
    select
        video_id,
        count(*) as stored,
        max(word_index) as last_index,
        max(end_s) as last_end_s,
        bool_or(end_s < start_s) as ends_first,
        max(back_s) as back_s
    from word_times
    group by video_id
),
spans as (
    select video_id, count(*) as spans, max(last_word) as last_word, bool_or(last_word < first_word) as turned_round
    from transcript_spans
    where patient_id = $patient
    group by video_id
),
figures as (
    select video_id, words
    from text_features
    where patient_id = $patient
),
texts as (
    select video_id, words
    from transcripts
    where patient_id = $patient
)
select
    video_id,
    t.words,
    coalesce(w.stored, 0) as stored,
    greatest(a.duration_s, v.duration_s) as ends_s,
    w.last_index,
    w.last_end_s,
    coalesce(w.ends_first, false) as ends_first,
    w.back_s,
    coalesce(s.spans, 0) as spans,
    s.last_word,
    coalesce(s.turned_round, false) as turned_round,
    f.words as figures_of
from texts as t
full join words as w using (video_id)
full join spans as s using (video_id)
full join figures as f using (video_id)
left join videos as v using (video_id)
left join audio as a using (video_id)
order by video_id
