-- Be again who one was when the session began, which need not be whoever logged in: a role may be set to become another.
set local role to default
