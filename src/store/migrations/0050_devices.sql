-- When each device last spoke. Discovered devices (in no inventory) are kept here until they are forgotten.
CREATE TABLE devices_seen (
    device TEXT PRIMARY KEY,
    kind TEXT NOT NULL,          -- camera | hotspot
    agency TEXT NOT NULL,
    last_seen_us BIGINT NOT NULL,
    discovered BIGINT NOT NULL   -- 1: no inventory lists it
);
CREATE INDEX devices_seen_discovered ON devices_seen (discovered, last_seen_us);
