-- Have the server answer: one that is frozen acknowledges every packet and says nothing.
select 1
