//! The beginning of MySQL's protocol: the server's greeting, TLS, the login.
//!
//! Login methods: `mysql_native_password`, `caching_sha2_password`, and the password in clear text where the connection
//! deserves that. Where a method would want the password encrypted with the server's RSA key, TLS is asked for instead.

use super::super::detail::Failure;
use super::super::outcome::{CheckResult, Phase};
use super::super::watch::Watched;
use super::SqlCheck;
use super::encrypt::encrypt;
use super::mysql::{foreign, receive, refusal, send};
use super::session::{Cursor, Duplex, Session, Talk, broken, fail};
use super::trouble::{Trouble, shown};
use crate::config::Secret;
use crate::config::probes::sql::SslMode;
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest greeting that is read, in bytes.
const GREETING_MAX: usize = 4096;

/// What we say we can: long flags, protocol 4.1 with its 20-byte scrambles, transactions, named login methods. Not:
/// several statements in one, files of ours for the server.
const CAPABILITIES: u32 = 0x1 | 0x4 | 0x200 | 0x2000 | 0x8000 | PLUGIN_AUTH;
const CONNECT_WITH_DB: u32 = 0x8;
const SSL: u32 = 0x800;
const PROTOCOL_41: u32 = 0x200;
const PLUGIN_AUTH: u32 = 0x8_0000;
/// utf8mb4_general_ci.
const CHARSET: u8 = 45;
/// What we would read of one message at most, as told to the server.
const MAX_PACKET: u32 = 256 << 10;

const NATIVE: &[u8] = b"mysql_native_password";
const CACHING: &[u8] = b"caching_sha2_password";
const CLEAR: &[u8] = b"mysql_clear_password";

/// What a server says of itself.
pub(super) struct Greeting {
    capabilities: u32,
    pub is_mariadb: bool,
    scramble: Vec<u8>,
    method: Vec<u8>,
}

/// Up to the end of the login.
pub(super) async fn log_in<'t>(
    check: &SqlCheck,
    mut stream: Watched<TcpStream>,
    talk: &'t mut Talk,
) -> Result<(Session<'t>, Greeting), Failure> {
    talk.trace.enter(Phase::Processing);
    let mut greeting = greet(&mut stream, talk).await?;
    let probe = &check.probe;
    let mut capabilities = CAPABILITIES & (greeting.capabilities | PLUGIN_AUTH);
    capabilities |= if probe.database.is_some() { CONNECT_WITH_DB } else { 0 };
    let mut sequence = 1;
    let mut encrypted = false;
    let stream: Box<dyn Duplex> = match &check.anchor {
        Some(anchor) if greeting.capabilities & SSL != 0 => {
            capabilities |= SSL;
            talk.trace.enter(Phase::Tls);
            let request = packet(sequence, &head(capabilities));
            talk.note_sent();
            stream.write_all(&request).await.map_err(|error| broken(&error, Phase::Tls))?;
            sequence += 1;
            encrypted = true;
            encrypt(Box::new(stream), &probe.host, probe.sslmode, anchor, talk).await?
        }
        Some(_) if probe.sslmode != SslMode::Prefer => return Err(fail(CheckResult::Tls, Trouble::NoTls)),
        _ => Box::new(Watched::new(stream, talk.trace.app.clone())),
    };
    let mut session = Session::new(stream, talk);
    let door = Door { password: probe.password.as_ref(), clear: encrypted && probe.sslmode != SslMode::Prefer };
    // A method that we do not know is answered for another one; the server then names the user's own.
    if !matches!(greeting.method.as_slice(), NATIVE | CACHING) {
        greeting.method = NATIVE.to_vec();
    }
    let proof = door.proof(&greeting.method, &greeting.scramble)?;
    let mut body = head(capabilities);
    body.extend(probe.user.as_bytes());
    body.push(0);
    body.push(u8::try_from(proof.len()).unwrap_or(0));
    body.extend(&proof);
    if let Some(database) = &probe.database {
        body.extend(database.as_bytes());
        body.push(0);
    }
    body.extend(&greeting.method);
    body.push(0);
    send(&mut session, sequence, &body).await?;
    door.pass(&mut session, &mut greeting).await?;
    Ok((session, greeting))
}

/// The first message of a server; read exactly, since TLS may follow it.
async fn greet(stream: &mut Watched<TcpStream>, talk: &Talk) -> Result<Greeting, Failure> {
    let lost = |error| broken(&error, Phase::Processing);
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(lost)?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if length > GREETING_MAX || head[3] != 0 {
        return Err(foreign());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(lost)?;
    match body.first() {
        // Before a login errors have no SQLSTATE.
        Some(0xff) => Err(refusal(talk.stage, &body)),
        Some(10) => {
            Greeting::parse(&body).filter(|greeting| greeting.capabilities & PROTOCOL_41 != 0).ok_or_else(foreign)
        }
        _ => Err(foreign()),
    }
}

impl Greeting {
    fn parse(body: &[u8]) -> Option<Greeting> {
        let mut cursor = Cursor(body);
        cursor.take(1)?;
        let version = String::from_utf8_lossy(cursor.text()?).to_ascii_lowercase();
        cursor.take(4)?;
        let mut scramble = cursor.take(8)?.to_vec();
        cursor.take(1)?;
        let low = cursor.take(2)?;
        // The character set and the status.
        cursor.take(3)?;
        let high = cursor.take(2)?;
        let capabilities = u32::from_le_bytes([low[0], low[1], high[0], high[1]]);
        let length = usize::from(cursor.u8()?);
        cursor.take(10)?;
        // 12 bytes more and a NUL, whatever was announced beyond 8.
        let second = cursor.take(length.saturating_sub(8).max(13).min(cursor.0.len()))?;
        scramble.extend(second.strip_suffix(&[0]).unwrap_or(second));
        let method = if capabilities & PLUGIN_AUTH != 0 { cursor.text().unwrap_or(cursor.0) } else { NATIVE };
        Some(Greeting { capabilities, is_mariadb: version.contains("mariadb"), scramble, method: method.to_vec() })
    }
}

/// The password and whether it may be said in clear text.
struct Door<'p> {
    password: Option<&'p Secret>,
    clear: bool,
}

impl Door<'_> {
    /// Answers the server until it lets us in.
    async fn pass(&self, session: &mut Session<'_>, greeting: &mut Greeting) -> Result<(), Failure> {
        // Greeting, switch, challenge, answer: a server that wants more than a few rounds wants something else.
        for _ in 0..8 {
            let (sequence, body) = receive(session).await?;
            let answer = match body.split_first() {
                Some((0x00, _)) => return Ok(()),
                Some((0xff, _)) => return Err(refusal(session.talk.stage, &body)),
                Some((0xfe, rest)) => {
                    let mut cursor = Cursor(rest);
                    // Without a name it is the method of servers before 4.1.
                    let old: &[u8] = b"mysql_old_password";
                    greeting.method = cursor.text().unwrap_or(old).to_vec();
                    greeting.scramble = cursor.0.strip_suffix(&[0]).unwrap_or(cursor.0).to_vec();
                    self.proof(&greeting.method, &greeting.scramble)?
                }
                // The server knew the proof already, and lets us in next.
                Some((0x01, [3])) if greeting.method == CACHING => continue,
                Some((0x01, [4])) if greeting.method == CACHING => self.in_clear()?,
                _ => return Err(foreign()),
            };
            send(session, sequence.wrapping_add(1), &answer).await?;
        }
        Err(foreign())
    }

    /// What proves the password in `method`; empty without a password.
    fn proof(&self, method: &[u8], scramble: &[u8]) -> Result<Vec<u8>, Failure> {
        let password = self.password.map(Secret::expose).unwrap_or_default();
        match method {
            NATIVE | CACHING if password.is_empty() => Ok(Vec::new()),
            NATIVE => Ok(native(password.as_bytes(), scramble)),
            CACHING => Ok(caching(password.as_bytes(), scramble)),
            CLEAR => self.in_clear(),
            other => {
                let name = shown(&String::from_utf8_lossy(other));
                Err(fail(CheckResult::Error, Trouble::Method { name }))
            }
        }
    }

    fn in_clear(&self) -> Result<Vec<u8>, Failure> {
        let password = self.password.ok_or_else(|| fail(CheckResult::Error, Trouble::NoPassword))?;
        if !self.clear {
            return Err(fail(CheckResult::Error, Trouble::InClear));
        }
        let mut bytes = password.expose().as_bytes().to_vec();
        bytes.push(0);
        Ok(bytes)
    }
}

/// The fixed part of our answer to the greeting; alone it asks for TLS.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend(MAX_PACKET.to_le_bytes());
    head.push(CHARSET);
    head.extend([0; 23]);
    head
}

/// A message with its head.
pub(super) fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    // Queries and passwords are far shorter than 16 MiB by configuration.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut packet = vec![length[0], length[1], length[2], sequence];
    packet.extend(body);
    packet
}

fn native(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let sha1 = |bytes: &[u8]| digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = sha1(password);
    let twice = sha1(once.as_ref());
    let mask = sha1(&[scramble, twice.as_ref()].concat());
    once.as_ref().iter().zip(mask.as_ref()).map(|(a, b)| a ^ b).collect()
}

fn caching(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| digest::digest(&SHA256, bytes);
    let once = sha256(password);
    let twice = sha256(once.as_ref());
    let mask = sha256(&[twice.as_ref(), scramble].concat());
    once.as_ref().iter().zip(mask.as_ref()).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_greeting_is_no_greeting() {
        let mut whole = vec![10];
        whole.extend(b"5.5.5-10.11.6-MariaDB\0\x01\0\0\0abcdefgh\0\xfe\xf7\x2d\x02\0\xff\x81\x15");
        whole.extend([0; 10]);
        whole.extend(b"ijklmnopqrst\0mysql_native_password\0");
        let greeting = Greeting::parse(&whole).unwrap();
        assert!(greeting.is_mariadb);
        assert_eq!(greeting.scramble, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.method, NATIVE);
        assert_eq!(greeting.capabilities, 0x81ff_f7fe);
        for length in 0..55 {
            assert!(Greeting::parse(&whole[..length]).is_none_or(|cut| cut.scramble.len() < 20), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_greeting_makes_us_panic(body: Vec<u8>) {
            let _ = Greeting::parse(&body);
        }
    }

    #[test]
    fn the_password_is_said_in_clear_only_where_that_is_allowed() {
        let secret = Secret::new("x");
        let closed = Door { password: Some(&secret), clear: false };
        assert!(closed.proof(CLEAR, b"").is_err());
        let open = Door { password: Some(&secret), clear: true };
        assert_eq!(open.proof(CLEAR, b"").unwrap(), b"x\0");
        assert!(open.proof(b"client_ed25519", b"").is_err());
    }
}
