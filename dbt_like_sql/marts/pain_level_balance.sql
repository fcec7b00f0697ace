-- One row a pain level, for four levels and for two: the right half of the paper's Table 4. The ratio is the frames
-- of the largest level over the level's own.
--
-- materialized: table
-- key: levels, pain_level
-- column levels: 4 for None to Severe, 2 for No Pain and Pain. [not_null, accepted_values: 4, 2]
-- column level_number: Order within. [not_null, range: 1..4]
-- column pain_level: Name of the level. [not_null]
-- column patients: Patients with frames. [not_null, range: 0..]
-- column videos: Videos with frames. [not_null, range: 0..]
-- column frames: Sampled frames. [not_null, range: 0..]
-- column frame_share: Share of all frames. [range: 0..1]
-- column ratio: Frames of the largest level over this level's frames; empty where there are none. [range: 1..]
with names (levels, level_number, pain_level) as (
    values (4, 1, 'None'), (4, 2, 'Low'), (4, 3, 'Moderate'), (4, 4, 'Severe'), (2, 1, 'No Pain'), (2, 2, 'Pain')
),
both_schemes as (
    select 4 as levels, pain_level, videos, frames, analysed
    from patient_summary
    union all
    select 2, pain_class, videos, frames, analysed
    from patient_summary
),
counted as (
    select
        n.levels,
        n.level_number,
        n.pain_level,
        count(*) filter (where b.analysed) as patients,
        coalesce(sum(b.videos), 0) as videos,
        coalesce(sum(b.frames), 0) as frames
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
