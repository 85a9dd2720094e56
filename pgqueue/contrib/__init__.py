"""Frameworks: each folder belongs to one, and is imported by programs that use it, never by `import pgqueue`."""
