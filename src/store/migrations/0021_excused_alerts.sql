-- Why nobody is told of an alert just now: its subject answers for nothing while something else is down or maintained.
ALTER TABLE alerts ADD COLUMN excused_us BIGINT;        -- since when; NULL: not excused
ALTER TABLE alerts ADD COLUMN excused_cause TEXT;
ALTER TABLE alerts ADD COLUMN excused_by TEXT;          -- the dependency's name, or the reason of the maintenance
ALTER TABLE alerts ADD COLUMN freed_us BIGINT;          -- when the excuse ended, while group_wait counts from then
-- Of an incident whose firing alerts are all excused.
ALTER TABLE incidents ADD COLUMN excused_us BIGINT;
ALTER TABLE incidents ADD COLUMN excused_by TEXT;
