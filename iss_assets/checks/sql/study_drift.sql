-- One row per month with enough videos and quality rate: its change from the mean of the months before.
with monthly as (
    select
        cast(date_trunc('month', s.submitted_on) as date) as month,
        count(*) as videos,
        avg(cast(q.usable as integer)) as usable,
        avg(q.face_rate order by q.face_rate) as face_rate,
        avg(q.landmark_rate order by q.landmark_rate) as landmark_rate
    from video_quality as q
    inner join bpi_scores as s on s.submission_id = q.video_id
    where s.submitted_on is not null
    group by 1
    having count(*) >= $drift_videos
),
long as (
    unpivot monthly on usable, face_rate, landmark_rate into name measure value rate
)
select
    strftime(month, '%Y-%m') as month,
    measure,
    videos,
    rate,
    rate - avg(rate) over (
        partition by measure order by month rows between unbounded preceding and 1 preceding
    ) as change
from long
order by measure, month
