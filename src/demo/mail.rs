//! A small mail server that keeps what it receives: each mail is `DIR/NNN.eml`, as delivered, with the envelope's
//! recipient on top. For the demo and for tests. It speaks enough SMTP for one sender on this machine, nothing more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A command line; RFC 5321 asks for 512.
const LINE: u64 = 2_048;
/// A mail.
const MAIL: usize = 16 * 1024 * 1024;

/// What to answer to a recipient instead of yes, e.g. `550 no such user`.
pub type Refusal = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where the mails are kept; cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    dir: Arc<PathBuf>,
    last: Arc<AtomicUsize>,
    received: watch::Sender<usize>,
    refusal: Arc<RwLock<Refusal>>,
}

impl Mailbox {
    /// Makes the directory; numbers go on after the mails that are there.
    pub fn open(dir: &Path) -> io::Result<Mailbox> {
        std::fs::create_dir_all(dir)?;
        let mut last = 0;
        for file in std::fs::read_dir(dir)? {
            let name = file?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".eml")).and_then(|n| n.parse().ok());
            last = last.max(number.unwrap_or(0));
        }
        let refusal: Refusal = Box::new(|_| None);
        Ok(Mailbox {
            dir: Arc::new(dir.to_path_buf()),
            last: Arc::new(AtomicUsize::new(last)),
            received: watch::Sender::new(0),
            refusal: Arc::new(RwLock::new(refusal)),
        })
    }

    /// From now on, asks `refusal` about each recipient.
    pub fn refuse(&self, refusal: Refusal) {
        *self.refusal.write().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// How many mails were received since [`Mailbox::open`]; changes as they come.
    pub fn received(&self) -> watch::Receiver<usize> {
        self.received.subscribe()
    }

    /// The mails, oldest first.
    pub fn mails(&self) -> io::Result<Vec<String>> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&*self.dir)?
            .map(|file| file.map(|file| file.path()))
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .collect();
        files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        files.iter().map(|path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())).collect()
    }

    fn keep(&self, recipients: &[String], data: &[u8]) -> io::Result<()> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut mail = Vec::with_capacity(data.len() + 64);
        for recipient in recipients {
            mail.extend_from_slice(format!("Delivered-To: {recipient}\r\n").as_bytes());
        }
        mail.extend_from_slice(data);
        // Whoever watches the directory never sees half a mail.
        let part = self.dir.join(format!("{number:03}.part"));
        std::fs::write(&part, mail)?;
        std::fs::rename(part, self.dir.join(format!("{number:03}.eml")))?;
        self.received.send_modify(|count| *count += 1);
        Ok(())
    }

    fn refusal_of(&self, recipient: &str) -> Option<String> {
        (self.refusal.read().unwrap_or_else(PoisonError::into_inner))(recipient)
    }
}

/// Serves until `shutdown`.
pub async fn run(listener: TcpListener, mailbox: Mailbox, shutdown: CancellationToken) -> io::Result<()> {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let mailbox = mailbox.clone();
                // A session that breaks off is the client's affair.
                sessions.spawn(async move { drop(session(stream, mailbox).await) });
            }
            Some(_) = sessions.join_next() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

async fn session(stream: TcpStream, mailbox: Mailbox) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut recipients: Vec<String> = Vec::new();
    say(&mut stream, "220 ioc-watch demo").await?;
    loop {
        let line = read_line(&mut stream).await?;
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
        match verb.as_str() {
            "" => return Ok(()),
            "EHLO" => say(&mut stream, "250-ioc-watch\r\n250-8BITMIME\r\n250 SMTPUTF8").await?,
            "HELO" | "NOOP" => say(&mut stream, "250 ok").await?,
            "MAIL" | "RSET" => {
                recipients.clear();
                say(&mut stream, "250 ok").await?;
            }
            "RCPT" => {
                let address = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(a, _)| a);
                match mailbox.refusal_of(address) {
                    Some(answer) => say(&mut stream, &answer).await?,
                    None => {
                        recipients.push(address.to_string());
                        say(&mut stream, "250 ok").await?;
                    }
                }
            }
            "DATA" if recipients.is_empty() => say(&mut stream, "503 no recipient").await?,
            "DATA" => {
                say(&mut stream, "354 go on").await?;
                let data = read_data(&mut stream).await?;
                mailbox.keep(&recipients, &data)?;
                recipients.clear();
                say(&mut stream, "250 kept").await?;
            }
            "QUIT" => return say(&mut stream, "221 bye").await,
            _ => say(&mut stream, "502 what?").await?,
        }
    }
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await
}

/// Empty at the end of the stream.
async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(LINE).read_until(b'\n', &mut line).await?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

async fn read_data(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = (MAIL - data.len()) as u64 + 1;
        if (&mut *stream).take(limit).read_until(b'\n', &mut line).await? == 0 || data.len() + line.len() > MAIL {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the mail does not end"));
        }
        match line.as_slice() {
            b".\r\n" => return Ok(data),
            [b'.', rest @ ..] => data.extend_from_slice(rest),
            line => data.extend_from_slice(line),
        }
    }
}
