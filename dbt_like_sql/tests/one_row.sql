select 1 where (select count(*) from study_summary) <> 1
