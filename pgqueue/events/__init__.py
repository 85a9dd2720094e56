"""The log of events: what is published, in one order for every reader."""

RELAY_ATTEMPTS = 5  # of an event that the bus refuses: with the waits between them half a minute
RELAY_BATCH = 500
