"""Orders, and the job that ships each."""
