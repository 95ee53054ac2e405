-- When an incident came back after all its alerts had ended, within the last hour. JSON; '' for never.
ALTER TABLE incidents ADD COLUMN flaps TEXT NOT NULL DEFAULT '';
