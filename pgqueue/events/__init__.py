"""The log of events: what is published, in one order for every reader."""
