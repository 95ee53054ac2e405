//! Mail: templates, the durable outbox, SMTP.
//!
//! Whoever has something to say renders it ([`templates`]), makes the complete message ([`message`]) and puts it into
//! the [`Outbox`] in the same transaction as its own state. From then on it is [`send::run`]'s: it survives crashes and
//! outages, and is never sent twice except for the one that was in flight when the process was killed.
//! *What* is said to whom is decided elsewhere.

mod dkim;
pub mod message;
mod outbox;
pub mod send;
pub mod smtp;
pub mod templates;

pub use message::{Draft, Letter, Outgoing, Part, Parts};
pub use outbox::{Outbox, Waiting};
