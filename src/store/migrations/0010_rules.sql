-- The ruler: every pending, firing or lately resolved alert, so that a restart neither waits for `for` again nor loses
-- a resolution.
CREATE TABLE rule_alerts (
    rule TEXT NOT NULL,          -- the rule's identity: name, static labels, ordinal
    fingerprint TEXT NOT NULL,   -- of the labels
    state TEXT NOT NULL,         -- pending | firing | resolved
    labels TEXT NOT NULL,        -- JSON object
    annotations TEXT NOT NULL,   -- JSON object, as of the last change of state
    value TEXT NOT NULL,         -- a float, which may be NaN
    active_us BIGINT NOT NULL,   -- when its expression began to hold
    fired_us BIGINT,
    resolved_us BIGINT,
    keep_us BIGINT,              -- since when it fires only by keep_firing_for
    PRIMARY KEY (rule, fingerprint)
);
