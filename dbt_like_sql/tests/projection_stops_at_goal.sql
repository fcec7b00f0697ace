select * from enrollment_progress where kind = 'projected' and total > goal
