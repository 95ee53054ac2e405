//! A real SMTP server (Debian's aiosmtpd) that keeps what it received as a Maildir, and a reader of it. It can be told to
//! misbehave as servers do.

use super::{Process, free_port, wait_for, wait_for_port};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct MailServer {
    pub port: u16,
    dir: PathBuf,
    certificate: Option<(PathBuf, PathBuf)>,
    /// What it does beside taking mails, as [`SCRIPT`] reads it.
    manners: Option<String>,
    process: Option<Process>,
}

/// A server with manners, given as JSON: `refuse` (recipients that begin so are refused), `grey` (a recipient is refused
/// for now, so many times), `slow` (seconds over each mail), `hang_up` (the ordinals, from 1, of the contents after which
/// it closes the connection without an answer), `keeps` (whether it keeps those).
const SCRIPT: &str = r#"
import asyncio, json, ssl, sys
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP
manners, asked, contents = json.loads(sys.argv[3]), {}, 0
class Handler(Mailbox):
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith(tuple(manners.get("refuse", []))):
            return "550 5.1.1 <%s>: no such user" % address
        asked[address] = asked.get(address, 0) + 1
        if asked[address] <= manners.get("grey", 0):
            return "451 4.7.1 <%s>: greylisted, come again" % address
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        global contents
        contents += 1
        await asyncio.sleep(manners.get("slow", 0))
        if contents in manners.get("hang_up", []):
            if manners.get("keeps"):
                await super().handle_DATA(server, session, envelope)
            server.transport.abort()
            return "451 gone"
        return await super().handle_DATA(server, session, envelope)
async def main():
    handler, tls = Handler(sys.argv[2]), None
    if len(sys.argv) > 4:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[4], sys.argv[5])
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler, hostname="mx", tls_context=tls, require_starttls=tls is not None), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"#;

/// A mail as the server kept it.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The envelope's recipient.
    pub recipient: String,
    pub head: String,
    pub body: String,
}

impl Mail {
    /// A header's value, unfolded, as it stands (not decoded).
    pub fn header(&self, name: &str) -> Option<String> {
        let unfolded = self.head.replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", " ");
        let prefix = format!("{}:", name.to_ascii_lowercase());
        unfolded
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map(|line| line[prefix.len()..].trim().to_string())
    }

    /// Whether this mail belongs to the thread that `first` began.
    pub fn answers(&self, first: &Mail) -> bool {
        let id = first.header("Message-ID").expect("a Message-ID");
        self.header("References").is_some_and(|references| references.contains(&id))
            && self.header("In-Reply-To").is_some()
    }
}

impl MailServer {
    /// With a certificate it offers (and requires) STARTTLS.
    pub fn start(dir: &Path, certificate: Option<(PathBuf, PathBuf)>) -> MailServer {
        let (port, dir) = (free_port(), dir.to_path_buf());
        let mut server = MailServer { port, dir, certificate, manners: None, process: None };
        server.resume();
        server
    }

    /// In the clear, with the manners of [`SCRIPT`].
    pub fn start_with(dir: &Path, manners: &str) -> MailServer {
        let manners = Some(manners.to_owned());
        let (port, dir) = (free_port(), dir.to_path_buf());
        let mut server = MailServer { port, dir, certificate: None, manners, process: None };
        server.resume();
        server
    }

    /// Begins anew with other manners and with what it has kept.
    pub fn behave(&mut self, manners: &str) {
        self.stop();
        self.manners = Some(manners.to_owned());
        self.resume();
    }

    /// Where it keeps what it received.
    pub fn maildir(&self) -> PathBuf {
        self.dir.join("maildir")
    }

    pub fn resume(&mut self) {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore"]);
        if let Some(manners) = &self.manners {
            command.args(["-c", SCRIPT, &self.port.to_string()]).arg(self.maildir()).arg(manners);
            if let Some((certificate, key)) = &self.certificate {
                command.arg(certificate).arg(key);
            }
        } else {
            command.args(["-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Mailbox"]);
            command.args(["-l", &format!("127.0.0.1:{}", self.port)]);
            if let Some((certificate, key)) = &self.certificate {
                command.arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
            }
            command.arg(self.maildir());
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(Process(command.spawn().expect("python3-aiosmtpd is installed")));
        wait_for_port("aiosmtpd", self.port);
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Everything received so far, in order of arrival.
    pub fn mails(&self) -> Vec<Mail> {
        let Ok(entries) = std::fs::read_dir(self.maildir().join("new")) else { return Vec::new() };
        let mut files: Vec<(std::time::SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        files
            .into_iter()
            .filter_map(|(_, file)| {
                let text = String::from_utf8_lossy(&std::fs::read(file).ok()?).replace("\r\n", "\n");
                let (head, body) = text.split_once("\n\n")?;
                let mut mail = Mail { recipient: String::new(), head: head.into(), body: body.into() };
                mail.recipient = mail.header("X-RcptTo")?;
                Some(mail)
            })
            .collect()
    }

    pub fn to(&self, recipient: &str) -> Vec<Mail> {
        self.mails().into_iter().filter(|mail| mail.recipient == recipient).collect()
    }

    /// Waits until `recipient` has `count` mails; gives them all.
    pub fn wait(&self, recipient: &str, count: usize, within: Duration) -> Vec<Mail> {
        wait_for(&format!("mail {count} to {recipient}"), within, || {
            let mails = self.to(recipient);
            (mails.len() >= count).then_some(mails)
        })
    }
}
