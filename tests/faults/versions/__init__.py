"""An application before and after a deploy: `new` has a task more, and one that takes an argument more."""
