"""The way of a call to the table, and of its result back: what a web process runs."""
