 + (select count from rung)
