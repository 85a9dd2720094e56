"""The process that runs what users want once for a whole worker, so that none of their code runs in the supervisor."""
