"""Schedules: jobs that are made again and again, by whichever worker comes first, at the times that the database's clock says."""
