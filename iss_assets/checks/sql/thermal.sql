select submission_id, status, face_found, forehead_c
from thermal
where patient_id = $patient
order by submission_id
