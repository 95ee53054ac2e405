-- What was known of a device's clock when it was last seen: how far it is from ours, and the last time it told, in
-- microseconds (since 1970). Both NULL: nothing.
ALTER TABLE devices_seen ADD COLUMN clock_offset_us BIGINT;
ALTER TABLE devices_seen ADD COLUMN clock_last_us BIGINT;
