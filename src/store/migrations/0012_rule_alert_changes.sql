-- The ruler's alerts, as a log instead of a row each: thousands may begin and end at every evaluation. A row is what one
-- evaluation changed; now and then the alerts are written as they stand, and what was before is deleted.
CREATE TABLE rule_alert_changes (
    seq BIGINT NOT NULL PRIMARY KEY,  -- the order
    -- JSON: [[rule, fingerprint, alert], …], the rule's identity, the labels' fingerprint, and the alert or null if it is no
    -- more: [state, labels, annotations, value, active_us, fired_us, keep_us]; state is pending or firing, the value a text,
    -- since JSON has no NaN; what labels and annotations are, as of the last change of state, are objects.
    changes TEXT NOT NULL
);
INSERT INTO rule_alert_changes (seq, changes)
SELECT ROW_NUMBER() OVER (ORDER BY rule, fingerprint),
    '[["' || REPLACE(REPLACE(rule, '\', '\\'), '"', '\"') || '","' || fingerprint || '",["' || state || '",' || labels || ','
    || annotations || ',"' || value || '",' || CAST(active_us AS TEXT) || ',' || COALESCE(CAST(fired_us AS TEXT), 'null') || ','
    || COALESCE(CAST(keep_us AS TEXT), 'null') || ']]]'
FROM rule_alerts WHERE state <> 'resolved';
DROP TABLE rule_alerts;
