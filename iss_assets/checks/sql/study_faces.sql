-- The moments of every face in the study, without files that were submitted for several patients.
with copies as (
    select sha256
    from videos
    where bytes > 0
    group by sha256
    having count(distinct patient_id) > 1
)
select f.patient_id, f.video_id, f.start_s, f.end_s, f.faces, f.method, f.vector
from face_identity as f
inner join videos as v on v.video_id = f.video_id
where v.sha256 not in (select sha256 from copies)
order by f.patient_id, f.video_id, f.moment
