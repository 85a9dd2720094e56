-- Begin a transaction, in one round trip with what comes first in it.
begin
