-- Rather try again later than let every finish queue up behind a waiting DDL statement.
set local lock_timeout = '500ms'
