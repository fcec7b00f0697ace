with totals as (
    select
        count(*) as enrolled,
        count(*) filter (where analysed) as patients,
        count(*) filter (where analysed and sex = 'M') as male,
        count(*) filter (where analysed and sex = 'F') as female,
        count(*) filter (where analysed and skin_group = 'light') as skin_light,
        count(*) filter (where analysed and skin_group = 'dark') as skin_dark,
        coalesce(sum(videos), 0) as videos,
        coalesce(sum(frames), 0) as frames,
        coalesce(sum(faces), 0) as faces,
        coalesce(sum(landmarks), 0) as landmarks,
        coalesce(sum(seconds order by seconds), 0) as seconds
    from patient_summary
),
durations as (
    select min(seconds) as shortest_video_s, max(seconds) as longest_video_s
    from stg_videos
    where extracted
)
select
    t.enrolled,
    t.patients,
    t.male,
    t.female,
    t.skin_light,
    t.skin_dark,
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
