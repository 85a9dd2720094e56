"""The process of one lane of a relay, so that no client of a bus runs in the supervisor."""
