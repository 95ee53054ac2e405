-- Who was on duty when handovers were last looked after; '' for nobody. A change since is a handover that was not mailed.
CREATE TABLE duty_shifts (
    agency TEXT PRIMARY KEY,
    person TEXT NOT NULL,
    since_us BIGINT NOT NULL
);
