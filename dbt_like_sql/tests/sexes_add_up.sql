select * from study_summary where male + female <> patients
