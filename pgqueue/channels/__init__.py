"""Live channels over LISTEN and NOTIFY: one connection for all listeners of a process, and a Gap where something may be missing."""
