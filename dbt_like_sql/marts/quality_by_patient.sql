with flag_counts as (
    select q.patient_id, f.flag, count(distinct q.video_id) as videos
    from video_quality as q
    cross join unnest(q.flags) as f (flag)
    group by q.patient_id, f.flag
),
most_frequent as (
    select patient_id, flag
    from flag_counts
    qualify row_number() over (partition by patient_id order by videos desc, flag) = 1
),
measured as (
    select
        patient_id,
        count(*) as measured,
        count(*) filter (where usable) as usable,
        count(*) filter (where len(flags) > 0) as flagged
    from video_quality
    group by patient_id
),
heard as (
    select patient_id, median(loudness_lufs) as loudness_lufs, median(snr_db) as snr_db
    from audio
    group by patient_id
),
seen as (
    select
        patient_id,
        count(*) as videos,
        sum(faces) / nullif(sum(frames), 0) as face_rate,
        sum(landmarks) / nullif(sum(faces), 0) as landmark_rate,
        avg(luminance order by luminance) as luminance,
        median(sharpness) as sharpness
    from stg_videos
    group by patient_id
)
select
    s.patient_id,
    p.sex,
    p.skin_group,
    p.pain_level,
    s.videos,
    coalesce(m.measured, 0) as measured,
    coalesce(m.usable, 0) as usable,
    m.usable / nullif(m.measured, 0) as usable_share,
    coalesce(m.flagged, 0) as flagged,
    f.flag as most_frequent_flag,
    s.face_rate,
    s.landmark_rate,
    s.luminance,
    s.sharpness,
    h.loudness_lufs,
    h.snr_db
from seen as s
inner join stg_patients as p on p.patient_id = s.patient_id
left join measured as m on m.patient_id = s.patient_id
left join most_frequent as f on f.patient_id = s.patient_id
left join heard as h on h.patient_id = s.patient_id
order by s.patient_id
