select * from stg_videos where landmarks > faces
