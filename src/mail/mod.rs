//! Mail: templates, the durable outbox, SMTP.
