-- Until the end of the transaction whatever is created belongs to the owner role, not to the current one.
set local role {owner}
