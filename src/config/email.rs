//! Section `email`: the SMTP server.

use super::Secret;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Email {
    pub security: Security,
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub from: lettre::message::Mailbox,
    pub retry: Retry,
}

/// Of the connection to the mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// `smtp://`; with a password on loopback only.
    Plain,
    /// `smtps://`
    Tls,
    /// `smtp+starttls://`; required, never downgraded.
    StartTls,
}

#[derive(Debug, Clone)]
pub struct Retry {
    /// Default 5 s.
    pub first: Duration,
    /// Default 10 m.
    pub max: Duration,
    /// Default 3 d.
    pub give_up: Duration,
}
