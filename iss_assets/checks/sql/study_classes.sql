-- One row per pain level that has patients.
select pain_level, count(*) as patients, count(*) / sum(count(*)) over () as share
from patients
group by pain_level
order by pain_level
