select * from stg_videos where faces > frames
