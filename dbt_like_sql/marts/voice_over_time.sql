select
    v.patient_id,
    v.video_id,
    s.submitted_on,
    s.study_day,
    b.pain_now,
    v.speech_s,
    v.phonation_share,
    v.pause_count / nullif(v.speech_s + v.pause_total_s, 0) * 60 as pauses_per_minute,
    v.pause_median_s,
    v.speech_rate,
    v.articulation_rate,
    v.f0_median_hz,
    12 * log2(v.f0_median_hz / median(v.f0_median_hz) over (partition by v.patient_id)) as f0_change_semitones,
    v.f0_range_semitones,
    v.hnr_db,
    v.loudness,
    v.spectral_slope_500_1500
from voice_features as v
left join stg_submissions as s on s.submission_id = v.video_id
left join bpi_scores as b on b.submission_id = v.video_id
where v.chunk_index = -1
order by v.patient_id, s.submitted_on, v.video_id
