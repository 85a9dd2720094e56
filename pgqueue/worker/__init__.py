"""The worker: a supervisor process that never imports user code, and the children that run it."""
