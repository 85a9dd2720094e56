on conflict (unique_key) where unique_key is not null do nothing
