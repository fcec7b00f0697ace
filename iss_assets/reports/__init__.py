"""Every page: the study report, the study page, the quality page, the page of a patient."""
