with videos_with_groups as (
    select
        v.video_id,
        v.patient_id,
        v.frames,
        v.faces,
        v.landmarks,
        v.luminance,
        a.snr_db,
        cast(q.usable as integer) as usable,
        p.sex,
        p.skin_group,
        p.age_group,
        p.pain_level,
        s.setting,
        s.timeframe
    from stg_videos as v
    inner join stg_patients as p on p.patient_id = v.patient_id
    left join stg_submissions as s on s.submission_id = v.video_id
    left join video_quality as q on q.video_id = v.video_id
    left join audio as a on a.video_id = v.video_id
),
grouped as (
    select 'sex' as grouping, sex as group_name, * from videos_with_groups
    union all
    select 'skin_group', skin_group, * from videos_with_groups
    union all
    select 'age_group', age_group, * from videos_with_groups where age_group is not null
    union all
    select 'pain_level', pain_level, * from videos_with_groups
    union all
    select 'setting', setting, * from videos_with_groups where setting is not null
    union all
    select 'timeframe', timeframe, * from videos_with_groups where timeframe is not null
),
per_patient as (
    select
        grouping,
        group_name,
        patient_id,
        count(*) as videos,
        sum(frames) as frames,
        sum(faces) / nullif(sum(frames), 0) as face_rate,
        sum(landmarks) / nullif(sum(faces), 0) as landmark_rate,
        avg(usable) as usable_share,
        avg(luminance order by luminance) as luminance,
        avg(snr_db order by snr_db) as snr_db
    from grouped
    group by grouping, group_name, patient_id
)
select
    grouping,
    group_name,
    count(*) as patients,
    sum(videos) as videos,
    sum(frames) as frames,
    avg(face_rate order by face_rate) as face_rate,
    min(face_rate) as face_rate_lowest,
    avg(landmark_rate order by landmark_rate) as landmark_rate,
    avg(usable_share order by usable_share) as usable_share,
    avg(luminance order by luminance) as luminance,
    avg(snr_db order by snr_db) as snr_db
from per_patient
group by grouping, group_name
order by grouping, group_name
