-- Made by `pgqueue trigger`, which also changes it.
#variable_conflict use_column
begin
{skip}{write}
  return null;
end
