"""Programs that use pgqueue; see README.md in this folder."""
