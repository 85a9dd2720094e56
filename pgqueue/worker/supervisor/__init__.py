"""The process that a person starts: it claims jobs, gives them to children and records how they ended. It imports no user code."""
