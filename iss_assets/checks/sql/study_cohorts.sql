-- One row per cohort that has patients.
select cohort, count(*) as patients
from patients
group by cohort
order by cohort
