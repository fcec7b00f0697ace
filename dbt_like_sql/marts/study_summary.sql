with totals as (
    select
        count(*) as enrolled,
        count(*) filter (where analyzed) as patients,
        count(*) filter (where analyzed and sex = 'M') as male,
        count(*) filter (where analyzed and sex = 'F') as female,
        count(*) filter (where analyzed and skin_group = 'light') as skin_light,
        count(*) filter (where analyzed and skin_group = 'dark') as skin_dark,
        -- empty in a study that does not say who is an adult
        case when count(age_group) > 0 then count(*) filter (where analyzed and age_group = 'adult') end as adult,
        case when count(age_group) > 0 then count(*) filter (where analyzed and age_group = 'pediatric') end as pediatric,
        coalesce(sum(videos) filter (where analyzed), 0) as videos,
        coalesce(sum(frames) filter (where analyzed), 0) as frames,
        coalesce(sum(faces) filter (where analyzed), 0) as faces,
        coalesce(sum(landmarks) filter (where analyzed), 0) as landmarks,
        coalesce(sum(seconds order by seconds) filter (where analyzed), 0) as seconds
    from patient_summary
),
durations as (
    select min(v.seconds) as shortest_video_s, max(v.seconds) as longest_video_s
    from stg_videos as v
    inner join stg_patients as p on p.patient_id = v.patient_id
    where v.extracted and p.analyzed
)
select
    t.enrolled,
    t.patients,
    t.male,
    t.female,
    t.skin_light,
    t.skin_dark,
    t.adult,
    t.pediatric,
    t.videos,
    t.frames,
    t.faces,
    t.landmarks,
    t.seconds / 60 as total_minutes,
    t.videos / nullif(t.patients, 0) as videos_per_patient,
    t.frames / nullif(t.patients, 0) as frames_per_patient,
    t.seconds / nullif(t.patients, 0) as seconds_per_patient,
    t.seconds / nullif(t.videos, 0) as seconds_per_video,
    d.shortest_video_s,
    d.longest_video_s
from totals as t
cross join durations as d
