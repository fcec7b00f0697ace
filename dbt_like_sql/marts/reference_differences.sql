-- One row per submission and measure of a feature: the narrative (Question 11) beside the patient's own reading of a
-- neutral text on the same day (Question 10), and the difference.
with voice as (
    select m.video_id, m.patient_id, m.recording, 'voice' as feature, m.measure, m.value
    from (
        select 'narrative' as recording, * exclude (fingerprint, chunk_index)
        from voice_features
        where chunk_index = -1
        union all
        select 'reading' as recording, * exclude (fingerprint, chunk_index)
        from prompt_voice_features
        where chunk_index = -1
    )
    unpivot (value for measure in (columns(* exclude (video_id, patient_id, recording))::double)) as m
),
behavior as (
    select m.video_id, m.patient_id, m.recording, 'behavior' as feature, m.measure, m.value
    from (
        select 'narrative' as recording, * exclude (fingerprint, chunk_index)
        from face_behavior_summary
        where chunk_index = -1
        union all
        select 'reading' as recording, * exclude (fingerprint, chunk_index)
        from prompt_face_behavior_summary
        where chunk_index = -1
    )
    unpivot (value for measure in (columns(* exclude (video_id, patient_id, recording))::double)) as m
),
text as (
    select m.video_id, m.patient_id, m.recording, 'text' as feature, m.measure, m.value
    from (
        select 'narrative' as recording, * exclude (fingerprint, embedding)
        from text_features
        union all
        select 'reading' as recording, * exclude (fingerprint, embedding)
        from prompt_text_features
    )
    unpivot (value for measure in (columns(* exclude (video_id, patient_id, recording))::double)) as m
),
measured as (
    select video_id, patient_id, recording, feature, measure, value from voice
    union all
    select video_id, patient_id, recording, feature, measure, value from behavior
    union all
    select video_id, patient_id, recording, feature, measure, value from text
)
select
    n.patient_id,
    n.video_id,
    n.feature,
    n.measure,
    n.value as narrative,
    r.value as reading,
    n.value - r.value as difference,
    p.read,
    p.cut_short
from measured as n
inner join measured as r
    on r.video_id = n.video_id and r.feature = n.feature and r.measure = n.measure and r.recording = 'reading'
left join prompt_readings as p on p.video_id = n.video_id
where n.recording = 'narrative'
order by n.patient_id, n.video_id, n.feature, n.measure
