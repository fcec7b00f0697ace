-- One row a submitted narrative video, readable or not, with what was extracted from it.
--
-- materialized: table
-- column video_id: Video id. [unique, not_null]
-- column patient_id: Patient id. [not_null, relationships: patients.patient_id]
-- column status: ok, or why nothing can be seen in it. [not_null]
-- column seconds: Duration; empty where the file cannot be read. [range: 0..]
-- column has_audio: Whether there is a sound track.
-- column frames: Sampled frames. [not_null, range: 0..]
-- column faces: Frames with a face. [not_null, range: 0..]
-- column landmarks: Faces with a mesh. [not_null, range: 0..]
-- column luminance: Mean luma of the frames, 0 to 1. [range: 0..1]
-- column sharpness: Median variance of the Laplacian over the frames. [range: 0..]
-- column noise: Median standard deviation of noise over the frames, 8 bit. [range: 0..]
-- column glare: Mean share of the picture that is blown out. [range: 0..1]
-- column extracted: Whether frames were sampled from it. [not_null]
-- test faces_within_frames: select * from {this} where faces > frames
-- test landmarks_within_faces: select * from {this} where landmarks > faces
with frame_counts as (
    select
        video_id,
        count(*) as frames,
        avg(luminance) as luminance,
        median(sharpness) as sharpness,
        median(noise) as noise,
        avg(glare) as glare
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
