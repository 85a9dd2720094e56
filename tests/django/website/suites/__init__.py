"""What Django's own test runner runs."""
