select * from study_summary where skin_light + skin_dark <> patients
