with moments as (
    select patient_id, video_id, method, vector
    from face_identity
    where faces >= 3
)
select
    a.patient_id,
    a.video_id,
    b.video_id as other_video_id,
    a.method,
    median(list_cosine_distance(a.vector, b.vector)) as distance
from moments as a
inner join moments as b
    on b.patient_id = a.patient_id and b.method = a.method and b.video_id > a.video_id
group by a.patient_id, a.video_id, b.video_id, a.method
order by a.patient_id, a.video_id, b.video_id
