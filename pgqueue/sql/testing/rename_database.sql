-- Give a template its name, now that it is whole.
alter database "{name}" rename to "{template}"
