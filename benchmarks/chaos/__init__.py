"""Breaking things on purpose: servers to stop, freeze and promote, a network that loses what it carries."""
