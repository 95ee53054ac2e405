//! Mail: templates, the durable outbox, SMTP; and webhooks, which use the same outbox.
//!
//! Whoever has something to say renders it ([`templates`]), makes the complete message ([`message`]) and puts it into
//! the [`Outbox`] in the same transaction as its own state. From then on it is [`send::run`]'s: it survives crashes and
//! outages, and is never sent twice except for the one that was in flight when the process was killed.
//! Where a reader wants a digest, or would get too many, several mails are told in one ([`summary`]).
//! What can never arrive is a [`Failure`], which its writer takes note of. *What* is said to whom is decided elsewhere.

mod address;
pub mod bounce;
mod dkim;
mod failure;
mod gate;
mod held;
mod lanes;
mod limit;
mod listing;
pub mod message;
mod outbox;
mod post;
pub mod send;
pub mod smtp;
pub mod summary;
pub mod templates;
pub mod webhook;

pub use address::masked;
pub use failure::Failure;
pub use listing::{Filter, Listed, State};
pub use message::{About, Brief, Draft, Letter, Outgoing, Part, Parts};
pub use outbox::{Channel, Outbox, Waiting};
pub use webhook::Call;
