-- One row per cell or row of the survey file that could not be used.
select submission_id, line, column_name, code
from rejected_rows
where patient_id = $patient and file = 'surveys.csv'
order by line, column_name, code
