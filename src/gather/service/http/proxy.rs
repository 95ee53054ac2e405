//! A tunnel through an HTTP proxy.

use super::super::detail::{Detail, Failure};
use super::super::outcome::CheckResult;
use crate::config::probes::http::Proxy;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use url::Host;

/// A proxy's answer is short.
const HEAD_MAX: usize = 8 * 1024;

/// Asks the proxy for a tunnel; what follows is spoken with the host itself.
pub(super) async fn tunnel<S>(mut stream: S, proxy: &Proxy, host: &Host<&str>, port: u16) -> Result<S, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |cause: String| Failure::new(CheckResult::Error, Detail::Proxy { cause });
    let login = proxy.login.as_ref().map_or_else(String::new, |(user, password)| {
        let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
        format!("Proxy-Authorization: Basic {pair}\r\n")
    });
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    let mut head = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the head is the host's.
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await.map_err(|error| failed(error.to_string()))? {
            0 => return Err(failed("closed the connection".into())),
            _ => head.push(byte[0]),
        }
        if head.len() > HEAD_MAX {
            return Err(failed("its answer is too long".into()));
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_ascii_whitespace().nth(1));
    match code.and_then(|code| code.parse::<u16>().ok()) {
        Some(200..=299) => Ok(stream),
        Some(code) => Err(failed(format!("status {code}"))),
        None => Err(failed("its answer is not HTTP".into())),
    }
}
