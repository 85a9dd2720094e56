-- Become the session's first role again, which need not be the one that logged in: a role may be set to become another.
set local role to default
