"""Questions about a running queue and orders to it: what people ask who operate it."""
