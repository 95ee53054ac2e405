-- What the incident is about in English, beside `subject` in the site's language. '' for those of earlier versions.
ALTER TABLE incidents ADD COLUMN subject_en TEXT NOT NULL DEFAULT '';
