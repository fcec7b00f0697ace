select 1 where (select count(*) from cohort_enrollment) <> 16
