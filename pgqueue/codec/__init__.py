"""Values and JSON: the arguments and results of tasks as text, and back as their annotations declare. No I/O."""
