-- One row a readable video of the patient: pictures sampled, those in stretches that stand still, faces found.
with stepped as (
    select
        video_id,
        frame_index,
        motion,
        motion < $still_motion as still,
        -- a stretch begins with each picture that moves
        count(*) filter (where not motion < $still_motion) over (partition by video_id order by frame_index) as stretch
    from frames
    where patient_id = $patient
),
stretches as (
    select video_id, stretch, count(*) filter (where still) as still
    from stepped
    group by video_id, stretch
    having count(*) filter (where still) >= $still_frames
),
stood as (
    select video_id, sum(still) as still
    from stretches
    group by video_id
),
counted as (
    select video_id, count(*) as frames, count(motion) as steps
    from stepped
    group by video_id
),
seen as (
    select video_id, count(*) as faces
    from faces
    where patient_id = $patient
    group by video_id
)
select
    v.video_id,
    v.duration_s,
    coalesce(c.frames, 0) as frames,
    coalesce(c.steps, 0) as steps,
    coalesce(cast(t.still as bigint), 0) as still,
    coalesce(s.faces, 0) as faces
from videos as v
left join counted as c on c.video_id = v.video_id
left join stood as t on t.video_id = v.video_id
left join seen as s on s.video_id = v.video_id
where v.patient_id = $patient and v.status = 'ok'
order by v.video_id
