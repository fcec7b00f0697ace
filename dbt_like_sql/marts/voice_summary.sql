select
    v.patient_id,
    p.sex,
    p.pain_level,
    count(*) as videos,
    count(v.f0_median_hz) as measured,
    sum(v.speech_s order by v.speech_s) / 60 as speech_minutes,
    median(v.phonation_share) as phonation_share,
    median(v.pauses_per_minute) as pauses_per_minute,
    median(v.pause_median_s) as pause_median_s,
    median(v.speech_rate) as speech_rate,
    median(v.articulation_rate) as articulation_rate,
    median(v.f0_median_hz) as f0_median_hz,
    max(v.f0_change_semitones) - min(v.f0_change_semitones) as f0_change_semitones,
    median(v.f0_range_semitones) as f0_range_semitones,
    median(v.hnr_db) as hnr_db,
    median(v.loudness) as loudness,
    median(v.spectral_slope_500_1500) as spectral_slope_500_1500
from voice_over_time as v
inner join stg_patients as p on p.patient_id = v.patient_id
group by v.patient_id, p.sex, p.pain_level
order by v.patient_id
