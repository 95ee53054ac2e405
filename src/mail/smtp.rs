//! One connection to the SMTP server, over plain TCP, STARTTLS or TLS, kept from mail to mail.
//!
//! The dialogue is driven command by command (over lettre's connection) to know who refused what: a recipient, the
//! content, or us. When to try again is decided in `send.rs`.

use super::dkim;
use super::gate::{Gate, Gated};
use super::message::Outgoing;
use crate::config::email::{Email, Security};
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For connecting, and for each answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 5321 lets a server take 10 minutes over the content; ours are small.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection idle for longer is asked whether it still lives.
const IDLE: Duration = Duration::from_secs(10);
/// The server closes the channel: not about this mail.
const CLOSING: u16 = 421;

#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    #[error("reading the mail server's CA certificates from {0}")]
    CaFile(PathBuf, #[source] std::io::Error),
    #[error("preparing TLS for the mail server {0}")]
    Tls(String, #[source] lettre::transport::smtp::Error),
}

/// Why a mail was not taken. The text is for the outbox, timelines and the log; it holds no mail and no whole address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryError {
    /// The server cannot be reached, does not speak TLS as required, refuses our password, or hung up: nothing about
    /// this mail. Try again, this one first.
    Unreachable(String),
    /// The server does not take this mail now.
    Temporary(String),
    /// The server takes nothing for this recipient now: a full mailbox, or greylisting, which wants to be asked again
    /// later. It says nothing about others.
    Recipient(String),
    /// The server will never take this mail.
    Refused(String),
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeliveryError::Unreachable(text)
            | DeliveryError::Temporary(text)
            | DeliveryError::Recipient(text)
            | DeliveryError::Refused(text) => f.write_str(text),
        }
    }
}

/// A connection that stands.
struct Connection {
    smtp: AsyncSmtpConnection,
    /// None with TLS from the beginning, which lettre makes over a connection of its own only.
    gate: Option<Gate>,
}

/// The way to the SMTP server.
pub struct Link {
    email: Email,
    tls: Option<TlsParameters>,
    hello: ClientId,
    connection: Option<Connection>,
    used: Instant,
}

impl Link {
    /// Reads the CA file; connects only when there is a mail.
    pub fn new(email: &Email) -> Result<Link, SmtpError> {
        let tls = match email.security {
            Security::Plain => None,
            Security::Tls | Security::StartTls => Some(tls_parameters(email)?),
        };
        Ok(Link { email: email.clone(), tls, hello: ClientId::default(), connection: None, used: Instant::now() })
    }

    /// Makes sure that there is a connection that still lives.
    pub async fn connect(&mut self) -> Result<(), DeliveryError> {
        if let Some(connection) = &mut self.connection
            && self.used.elapsed() >= IDLE
            && answer(TIMEOUT, connection.smtp.command(Noop)).await.is_err()
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            self.connection = Some(self.open().await?);
        }
        Ok(())
    }

    /// Hands one mail to the server. `Ok(true)` means that the server has taken responsibility for it, which it cannot
    /// before `may_have_it` says true: until then the end of the mail is held back. If that says false: `Ok(false)`.
    pub async fn deliver(
        &mut self,
        mail: &Outgoing,
        may_have_it: impl Future<Output = bool>,
    ) -> Result<bool, DeliveryError> {
        let (Ok(sender), Ok(recipient)) = (mail.sender.parse::<Address>(), mail.recipient.parse::<Address>()) else {
            return Err(DeliveryError::Refused("the address cannot be read".into()));
        };
        // Here, not when it was written: one that waited for days is signed with the key of today.
        let signed = match &self.email.dkim {
            Some(dkim) => {
                dkim::sign(dkim, &mail.message).map_err(|error| DeliveryError::Temporary(error.to_string()))?
            }
            None => String::new(),
        };
        let content = Content::new(&(signed + &mail.message));
        self.connect().await?;
        // Taken: a mail that is left in the middle leaves no half-made dialogue behind.
        let Some(mut connection) = self.connection.take() else { return Ok(false) };
        let outcome = dialogue(&mut connection, sender, recipient, may_have_it, &content).await;
        self.used = Instant::now();
        match &outcome {
            Ok(true) => self.connection = Some(connection),
            // There is no way back from an announced mail but to hang up.
            Ok(false) | Err(DeliveryError::Unreachable(_)) => {}
            Err(_) => {
                // Forget the half-made envelope, so that the next mail does not inherit it.
                if answer(TIMEOUT, connection.smtp.command(Rset)).await.is_ok() {
                    self.connection = Some(connection);
                }
            }
        }
        outcome
    }

    /// Says goodbye.
    pub async fn close(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.smtp.quit()).await;
        }
    }

    async fn open(&self) -> Result<Connection, DeliveryError> {
        let (host, port) = (self.email.host.as_str(), self.email.port);
        let (mut connection, gate) = if self.email.security == Security::Tls {
            let tls = self.tls.clone();
            let connecting = AsyncSmtpConnection::connect_tokio1((host, port), Some(TIMEOUT), &self.hello, tls, None);
            (answer(TIMEOUT, connecting).await.map_err(unreachable)?, None)
        } else {
            let broken = |text| unreachable(Failure::Broken(text));
            let connecting = tokio::time::timeout(TIMEOUT, Gated::connect(host, port)).await;
            let gated = connecting
                .map_err(|_| broken(format!("no connection within {} s", TIMEOUT.as_secs())))?
                .map_err(|error| broken(format!("connecting: {error}")))?;
            let gate = gated.gate();
            let greeted = AsyncSmtpConnection::connect_with_transport(Box::new(gated), &self.hello);
            (answer(TIMEOUT, greeted).await.map_err(unreachable)?, Some(gate))
        };
        if let (Security::StartTls, Some(tls)) = (self.email.security, self.tls.clone()) {
            // Fails if the server does not offer it: never sent in the clear.
            answer(TIMEOUT, connection.starttls(tls, &self.hello)).await.map_err(unreachable)?;
        }
        if let (Some(username), Some(password)) = (&self.email.username, &self.email.password) {
            let credentials = Credentials::new(username.clone(), password.expose().to_string());
            answer(TIMEOUT, connection.auth(DEFAULT_MECHANISMS, &credentials)).await.map_err(unreachable)?;
        }
        Ok(Connection { smtp: connection, gate })
    }
}

async fn dialogue(
    connection: &mut Connection,
    sender: Address,
    recipient: Address,
    may_have_it: impl Future<Output = bool>,
    content: &Content,
) -> Result<bool, DeliveryError> {
    let Connection { smtp: connection, gate } = connection;
    // A server that refuses us as sender says nothing about the recipient: that is for us to repair, and to try again.
    answer(TIMEOUT, connection.command(Mail::new(Some(sender), vec![]))).await.map_err(|failure| match failure {
        Failure::Never(text) => DeliveryError::Temporary(text),
        other => of_mail(other),
    })?;
    answer(TIMEOUT, connection.command(Rcpt::new(recipient, vec![]))).await.map_err(|failure| match failure {
        Failure::Later(text) => DeliveryError::Recipient(text),
        other => of_mail(other),
    })?;
    answer(TIMEOUT, connection.command(Data)).await.map_err(of_mail)?;
    let mut sending = std::pin::pin!(connection.command(content));
    match gate {
        Some(gate) => {
            gate.close();
            let may_have_it = tokio::select! {
                may_have_it = may_have_it => may_have_it,
                // It waits for an answer only after the end, which is held back.
                _ = &mut sending => return Err(DeliveryError::Unreachable("the server hung up".into())),
            };
            if !may_have_it {
                return Ok(false);
            }
            gate.open();
        }
        None if !may_have_it.await => return Ok(false),
        None => {}
    }
    answer(CONTENT_TIMEOUT, sending).await.map_err(of_mail)?;
    Ok(true)
}

/// What came back instead of a yes.
enum Failure {
    Broken(String),
    Later(String),
    Never(String),
}

async fn answer<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let text = chain(&error);
            match error.status() {
                Some(code) if u16::from(code) == CLOSING => Err(Failure::Broken(text)),
                Some(_) if error.is_permanent() => Err(Failure::Never(text)),
                Some(_) => Err(Failure::Later(text)),
                None => Err(Failure::Broken(text)),
            }
        }
        Err(_) => Err(Failure::Broken(format!("no answer within {} s", limit.as_secs()))),
    }
}

fn of_mail(failure: Failure) -> DeliveryError {
    match failure {
        Failure::Broken(text) => DeliveryError::Unreachable(text),
        Failure::Later(text) => DeliveryError::Temporary(text),
        Failure::Never(text) => DeliveryError::Refused(text),
    }
}

fn unreachable(failure: Failure) -> DeliveryError {
    let (Failure::Broken(text) | Failure::Later(text) | Failure::Never(text)) = failure;
    DeliveryError::Unreachable(text)
}

/// An error with its causes, on one line of bounded length.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    // What servers say names the recipient more often than not.
    super::message::shorten(&super::address::masked_in(&super::message::one_line(&text)), 300)
}

/// A message as it goes over the wire: dots doubled, with the final dot, in one piece.
struct Content(String);

impl Content {
    fn new(message: &str) -> Content {
        let mut wire = String::with_capacity(message.len() + 64);
        for line in message.split_inclusive("\r\n") {
            if line.starts_with('.') {
                wire.push('.');
            }
            wire.push_str(line);
        }
        wire.push_str(if message.ends_with("\r\n") { ".\r\n" } else { "\r\n.\r\n" });
        Content(wire)
    }
}

impl fmt::Display for &Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn tls_parameters(email: &Email) -> Result<TlsParameters, SmtpError> {
    let failed = |error| SmtpError::Tls(email.host.clone(), error);
    let mut builder = TlsParameters::builder(email.host.clone());
    if let Some(file) = &email.ca_file {
        let pem = std::fs::read(file).map_err(|error| SmtpError::CaFile(file.clone(), error))?;
        let certificates = Certificate::from_pem(&pem).map_err(failed)?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificates);
    }
    builder.build().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::Content;

    #[test]
    fn a_line_of_one_dot_does_not_end_the_message() {
        assert_eq!(Content::new("a\r\n.\r\n.b\r\nc").0, "a\r\n..\r\n..b\r\nc\r\n.\r\n");
        assert_eq!(Content::new("a\r\n").0, "a\r\n.\r\n");
    }
}
