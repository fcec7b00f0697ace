with frame_counts as (
    select
        video_id,
        count(*) as frames,
        avg(luminance order by luminance) as luminance,
        median(sharpness) as sharpness,
        median(noise) as noise,
        avg(glare order by glare) as glare
    from frames
    group by video_id
),
face_counts as (
    select video_id, count(*) as faces
    from faces
    group by video_id
),
landmark_counts as (
    select video_id, count(*) filter (where detected) as landmarks
    from landmarks
    group by video_id
)
select
    v.video_id,
    v.patient_id,
    v.status,
    v.duration_s as seconds,
    v.has_audio,
    coalesce(f.frames, 0) as frames,
    coalesce(c.faces, 0) as faces,
    coalesce(l.landmarks, 0) as landmarks,
    f.luminance,
    cast(f.sharpness as double) as sharpness,
    cast(f.noise as double) as noise,
    f.glare,
    coalesce(f.frames, 0) > 0 as extracted
from videos as v
left join frame_counts as f on f.video_id = v.video_id
left join face_counts as c on c.video_id = v.video_id
left join landmark_counts as l on l.video_id = v.video_id
order by v.video_id
