with heard as (
    select
        patient_id,
        count(*) as videos,
        sum(duration_s order by duration_s) as seconds,
        sum(duration_s * speech_share order by duration_s * speech_share) as speech_seconds,
        median(loudness_lufs) as loudness_lufs,
        median(snr_db) as snr_db,
        avg(clipped_share order by clipped_share) as clipped_share
    from audio
    group by patient_id
),
features as (
    select
        patient_id,
        count(*) as chunks,
        avg(spectral_centroid order by spectral_centroid) as spectral_centroid,
        avg(rolloff order by rolloff) as rolloff,
        avg(zero_crossing_rate order by zero_crossing_rate) as zero_crossing_rate
    from audio_features
    where chunk_index >= 0
    group by patient_id
)
select
    h.patient_id,
    p.sex,
    p.pain_level,
    h.videos,
    h.seconds / 60 as minutes,
    h.speech_seconds / 60 as speech_minutes,
    h.speech_seconds / nullif(h.seconds, 0) as speech_share,
    coalesce(f.chunks, 0) as chunks,
    h.loudness_lufs,
    h.snr_db,
    h.clipped_share,
    f.spectral_centroid,
    f.rolloff,
    f.zero_crossing_rate
from heard as h
inner join stg_patients as p on p.patient_id = h.patient_id
left join features as f on f.patient_id = h.patient_id
order by h.patient_id
