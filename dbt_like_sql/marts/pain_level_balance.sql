with names (levels, level_number, pain_level) as (
    values (4, 1, 'None'), (4, 2, 'Low'), (4, 3, 'Moderate'), (4, 4, 'Severe'), (2, 1, 'No Pain'), (2, 2, 'Pain')
),
both_schemes as (
    select 4 as levels, pain_level, videos, frames, analyzed
    from patient_summary
    union all
    select 2, pain_class, videos, frames, analyzed
    from patient_summary
),
counted as (
    select
        n.levels,
        n.level_number,
        n.pain_level,
        count(*) filter (where b.analyzed) as patients,
        coalesce(sum(b.videos) filter (where b.analyzed), 0) as videos,
        coalesce(sum(b.frames) filter (where b.analyzed), 0) as frames
    from names as n
    left join both_schemes as b on b.levels = n.levels and b.pain_level = n.pain_level
    group by n.levels, n.level_number, n.pain_level
)
select
    levels,
    level_number,
    pain_level,
    patients,
    videos,
    frames,
    frames / nullif(sum(frames) over (partition by levels), 0) as frame_share,
    max(frames) over (partition by levels) / nullif(frames, 0) as ratio
from counted
order by levels desc, level_number
