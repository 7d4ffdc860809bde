-- Fences that tell of rows which are gone with their table. Only those that were read while it was missing: a driver that
-- has made it since has taken steps of its own.
delete from {fence}
where token in unnest(@tokens)
