"""A Django project that defers jobs in its own transactions."""
