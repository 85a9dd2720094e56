-- Say for this database what its sessions have had so far.
do $$
begin
  execute 'alter database ' || quote_ident(current_database()) || ' set search_path = "$user", public';
end
$$
