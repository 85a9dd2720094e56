-- Make the group roles that are missing, and give everything in the schema to the owner role; needs CREATEROLE the first time.
do $$
declare
  groups  text[] := array['{owner}', '{producer}', '{worker}', '{reader}', '{admin}'];
  role    text;
  thing   text;
begin
  if not exists (select from pg_roles where rolname = current_user and (rolsuper or rolcreaterole))
    and exists (select from unnest(groups) as name where to_regrole(name) is null)
  then
    raise insufficient_privilege using message = format(
      'role %s may not create roles: give it CREATEROLE, or let a superuser run `pgqueue migrate --roles`'
      ' (--sql prints it for psql)', current_user
    );
  end if;
  foreach role in array groups loop
    begin
      if to_regrole(role) is null then
        execute 'create role ' || role || ' nologin';
      end if;
    exception when duplicate_object or unique_violation then
      null; -- made in this moment for another database: roles belong to the whole server
    end;
  end loop;
  -- One that already existed must not smuggle more in: the functions of the owner run with all of its rights.
  select rolname into role
  from pg_roles
  where
    oid::regrole::text = any (select to_regrole(name)::text from unnest(groups) as name)
    and (rolsuper or rolcanlogin or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls);
  if found then
    raise exception 'role % is more than a group: alter it to nologin nosuperuser nocreaterole nocreatedb, or drop it', role;
  end if;
  select roleid::regrole into role from pg_auth_members where member = to_regrole('{owner}') limit 1;
  if found then
    raise exception 'role {owner} is a member of %, so its functions would have those rights too: revoke that', role;
  end if;
  -- The role that creates the owner role may act as it: it has just created the tables.
  if not pg_has_role(current_user, '{owner}'::regrole, 'usage') then
    grant {owner} to current_user;
  end if;
  if not pg_has_role('{admin}'::regrole, '{producer}'::regrole, 'member') then
    grant {producer} to {admin};
  end if;
  if not pg_has_role('{admin}'::regrole, '{reader}'::regrole, 'member') then
    grant {reader} to {admin};
  end if;
  if not exists (select from pg_namespace where oid = '{schema}'::regnamespace and nspowner = '{owner}'::regrole) then
    alter schema {schema} owner to {owner};
  end if;
  for thing in
    select format('table %s', oid::regclass)
    from pg_class
    where relnamespace = '{schema}'::regnamespace and relowner <> '{owner}'::regrole and relkind in ('r', 'p', 'v', 'S')
      -- The sequence of an identity column goes with its table.
      and (relkind <> 'S' or not exists (select from pg_depend where objid = pg_class.oid and deptype in ('a', 'i')))
    union all
    select format('type %s', oid::regtype)
    from pg_type
    where typnamespace = '{schema}'::regnamespace and typowner <> '{owner}'::regrole and typtype in ('e', 'd')
    union all
    select format('routine %s', oid::regprocedure)
    from pg_proc
    where pronamespace = '{schema}'::regnamespace and proowner <> '{owner}'::regrole
  loop
    execute format('alter %s owner to {owner}', thing);
  end loop;
end
$$;
