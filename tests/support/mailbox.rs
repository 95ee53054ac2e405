//! A real SMTP server (Debian's aiosmtpd) that keeps what it received as a Maildir, and a reader of it.

use super::{Process, free_port, wait_for, wait_for_port};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct MailServer {
    pub port: u16,
    dir: PathBuf,
    certificate: Option<(PathBuf, PathBuf)>,
    process: Option<Process>,
}

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
        let mut server = MailServer { port: free_port(), dir: dir.to_path_buf(), certificate, process: None };
        server.resume();
        server
    }

    pub fn resume(&mut self) {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore", "-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Mailbox"]);
        command.args(["-l", &format!("127.0.0.1:{}", self.port)]);
        if let Some((certificate, key)) = &self.certificate {
            command.arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
        }
        command.arg(self.dir.join("maildir")).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(Process(command.spawn().expect("python3-aiosmtpd is installed")));
        wait_for_port("aiosmtpd", self.port);
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Everything received so far, in order of arrival.
    pub fn mails(&self) -> Vec<Mail> {
        let Ok(entries) = std::fs::read_dir(self.dir.join("maildir/new")) else { return Vec::new() };
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
