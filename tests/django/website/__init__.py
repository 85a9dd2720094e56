"""A project of Django for its Tasks and its admin."""
