"""Releases of the study's data for other people, in three tiers: open, registered, controlled.

``columns`` says what every column is and which tiers may have it; ``pseudonyms`` replaces ids and shifts dates;
``anonymity`` generalizes sex, skin type and cohort; ``small_cells`` empties small groups of summaries; ``tables`` writes
the files; ``metadata`` and ``pages`` describe them; ``make`` does all of it in one step.
"""
