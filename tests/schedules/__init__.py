"""Schedules: their times, who fires them, and what people do with them."""
