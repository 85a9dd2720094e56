-- Until the end of the transaction whatever is made belongs to the owner role, whoever makes it.
set local role {owner}
