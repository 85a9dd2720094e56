"""Its only app."""
