on conflict (id) do nothing
