//! Real servers for the tests, each started on a free loopback port and stopped with its value, and small readers of
//! what they kept. One file a server.
#![allow(dead_code, reason = "each test binary uses some of the servers")]

pub mod alertmanager;
pub mod certificates;
pub mod daemon;
pub mod hostile;
pub mod judge;
pub mod mailbox;
pub mod nginx;
pub mod prometheus;

use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

/// A port that nothing listens on; another process may take it before its user does, which a start then reports.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound listener").port()
}

/// Waits until `port` accepts; fails naming `what`.
pub fn wait_for_port(what: &str, port: u16) {
    wait_for(&format!("{what} to listen on {port}"), Duration::from_secs(30), || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
}

/// Asks until there is an answer; fails naming `what` when there is none in time.
pub fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A child process that is killed with its value.
pub struct Process(pub Child);

impl Process {
    /// Sends a signal by name: `STOP`, `CONT`, `HUP`, `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to any process of ours.
pub fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// `GET` over plain HTTP on loopback: status and body.
pub fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    request(port, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"))
}

/// [`get`] with a bearer token.
pub fn get_as(port: u16, path: &str, token: &str) -> std::io::Result<(u16, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n");
    request(port, &format!("{head}Connection: close\r\n\r\n"))
}

/// `POST` over plain HTTP on loopback: status and body.
pub fn post(port: u16, path: &str, kind: &str, body: &str) -> std::io::Result<(u16, String)> {
    request(
        port,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        ),
    )
}

/// Any request over plain HTTP on loopback, with a body of JSON if there is one: status and body.
pub fn send(port: u16, method: &str, path: &str, body: Option<&str>) -> std::io::Result<(u16, String)> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    match body {
        None => request(port, &format!("{head}\r\n")),
        Some(body) => {
            let length = body.len();
            request(port, &format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"))
        }
    }
}

fn request(port: u16, text: &str) -> std::io::Result<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { dechunk(body) } else { body.to_string() }))
}

fn dechunk(body: &str) -> String {
    let mut whole = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let (Some(chunk), true) = (after.get(..size), size > 0) else { break };
        whole.push_str(chunk);
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Percent-encodes everything but unreserved characters.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
