-- Whether all names and conditions have a meaning, before anything is written.
select {op}, {said} from {sample}
where false and (
  {condition}
)
