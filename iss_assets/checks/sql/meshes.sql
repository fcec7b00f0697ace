-- One row a video of the patient with faces: how many have no mesh, and how many meshes are no face, jump, are mirrored
-- or do not stand upright. Points are x, y, z in turn, shares of the crop's side; five of them say enough: outer corners
-- of the eyes (33 left in the picture, 263 right), top of the forehead (10), chin (152), tip of the nose (1). Lists count
-- from 1, so point p has x at 3p + 1 and y at 3p + 2.
with picked as (
    select
        l.video_id,
        l.frame_index,
        l.detected,
        f.x1 + l.points[100] * (f.x2 - f.x1) as left_x,
        f.y1 + l.points[101] * (f.y2 - f.y1) as left_y,
        f.x1 + l.points[790] * (f.x2 - f.x1) as right_x,
        f.y1 + l.points[791] * (f.y2 - f.y1) as right_y,
        f.x1 + l.points[31] * (f.x2 - f.x1) as top_x,
        f.y1 + l.points[32] * (f.y2 - f.y1) as top_y,
        f.x1 + l.points[457] * (f.x2 - f.x1) as chin_x,
        f.y1 + l.points[458] * (f.y2 - f.y1) as chin_y,
        f.x1 + l.points[4] * (f.x2 - f.x1) as nose_x,
        f.y1 + l.points[5] * (f.y2 - f.y1) as nose_y,
        l.points[4] as nose_share_x,
        l.points[5] as nose_share_y
    from landmarks as l
    left join faces as f on f.video_id = l.video_id and f.frame_index = l.frame_index
    where l.patient_id = $patient
),
measured as (
    select
        video_id,
        frame_index,
        detected,
        nose_x,
        nose_y,
        sqrt((right_x - left_x) ** 2 + (right_y - left_y) ** 2) as eyes,
        sqrt((chin_x - top_x) ** 2 + (chin_y - top_y) ** 2) as height,
        nose_share_x between -0.25 and 1.25 and nose_share_y between -0.25 and 1.25 as inside,
        -- the sign of the turn from the eyes' line to the chin tells a mesh from its mirror image, however it is rolled
        (right_x - left_x) * (chin_y - top_y) - (right_y - left_y) * (chin_x - top_x) < 0 as mirrored,
        degrees(atan2(right_y - left_y, right_x - left_x)) as roll
    from picked
),
stepped as (
    select
        *,
        frame_index - lag(frame_index) over w as step,
        sqrt((nose_x - lag(nose_x) over w) ** 2 + (nose_y - lag(nose_y) over w) ** 2) as moved,
        least(eyes, lag(eyes) over w) as scale
    from measured
    where detected
    window w as (partition by video_id order by frame_index)
),
judged as (
    select
        video_id,
        count(*) as meshes,
        count(*) filter (
            where not coalesce(inside and height > 0 and eyes / height between $min_ratio and $max_ratio, false)
        ) as implausible,
        count(*) filter (where mirrored) as mirrored,
        count(*) filter (where not mirrored and abs(roll) > $max_roll) as turned,
        count(*) filter (where step = 1) as steps,
        count(*) filter (where step = 1 and moved > $jump * scale) as jumps
    from stepped
    group by video_id
),
counted as (
    select video_id, count(*) as faces, count(*) filter (where not detected) as failures
    from measured
    group by video_id
)
select
    c.video_id,
    c.faces,
    c.failures,
    coalesce(j.meshes, 0) as meshes,
    coalesce(j.implausible, 0) as implausible,
    coalesce(j.mirrored, 0) as mirrored,
    coalesce(j.turned, 0) as turned,
    coalesce(j.steps, 0) as steps,
    coalesce(j.jumps, 0) as jumps
from counted as c
left join judged as j on j.video_id = c.video_id
order by c.video_id
