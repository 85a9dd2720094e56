"""Webhooks: endpoints that get a signed POST for each event they want."""
