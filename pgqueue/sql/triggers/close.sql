-- No other role can make a trigger of the function on its own table.
revoke all on function {schema}.{function}() from public
