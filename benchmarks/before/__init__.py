"""This build beside an earlier one: the same figure of both in turn, so that a disturbance of the machine meets them alike."""
