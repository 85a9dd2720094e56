"""pgqueue beside its peers: each at its own documented best, on the same machine, in one run, taking turns."""
