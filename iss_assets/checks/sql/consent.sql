-- One row per scope in which something was recorded of a patient's consent.
select scope, state, withdrawn_on
from consent
where patient_id = $patient
order by scope
