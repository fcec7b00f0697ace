select 1 where (select sum(current) from cohort_enrollment) <> (select count(*) from patients)
