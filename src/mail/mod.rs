//! Mail: templates, the durable outbox, SMTP.
//!
//! Whoever has something to say renders it ([`templates`]), makes the complete message ([`message`]) and puts it into
//! the [`Outbox`] in the same transaction as its own state. From then on it is [`send::run`]'s: it survives crashes and
//! outages, and is never sent twice except for the one that was in flight when the process was killed.
//! What can never arrive is a [`Failure`], which its writer takes note of. *What* is said to whom is decided elsewhere.

mod address;
pub mod bounce;
mod dkim;
mod failure;
mod listing;
pub mod message;
mod outbox;
pub mod send;
pub mod smtp;
pub mod templates;

pub use address::masked;
pub use failure::Failure;
pub use listing::{Filter, Listed, State};
pub use message::{About, Draft, Letter, Outgoing, Part, Parts};
pub use outbox::{Outbox, Waiting};
