-- Be oneself again.
set local role none
