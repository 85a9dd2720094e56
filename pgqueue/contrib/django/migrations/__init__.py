"""One for each numbered file of sql/migrations, of the same name."""
