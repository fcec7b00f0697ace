-- One row a patient with a sound track: how much, how loud and how clean, and the voice's average features.
--
-- materialized: table
-- column patient_id: Patient id. [unique, not_null, relationships: patients.patient_id]
-- column sex: M or F.
-- column pain_level: Level of the pain target.
-- column videos: Videos with sound. [not_null, range: 1..]
-- column minutes: Duration of the sound. [not_null, range: 0..]
-- column speech_minutes: Of these, somebody speaks. [not_null, range: 0..]
-- column speech_share: The same as a share. [range: 0..1]
-- column chunks: 4-second chunks with features. [not_null, range: 0..]
-- column loudness_lufs: Median over videos.
-- column snr_db: Median over videos.
-- column clipped_share: Mean over videos of the share of samples at full scale. [range: 0..1]
-- column spectral_centroid: Mean over chunks, Hz. [range: 0..]
-- column rolloff: Mean over chunks, Hz. [range: 0..]
-- column zero_crossing_rate: Mean over chunks. [range: 0..1]
with heard as (
    select
        patient_id,
        count(*) as videos,
        sum(duration_s) as seconds,
        sum(duration_s * speech_share) as speech_seconds,
        median(loudness_lufs) as loudness_lufs,
        median(snr_db) as snr_db,
        avg(clipped_share) as clipped_share
    from audio
    group by patient_id
),
features as (
    select
        patient_id,
        count(*) as chunks,
        avg(spectral_centroid) as spectral_centroid,
        avg(rolloff) as rolloff,
        avg(zero_crossing_rate) as zero_crossing_rate
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
