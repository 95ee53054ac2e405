//! The `demo` command: everything outside the daemon, simulated on real sockets, and the daemon beside it.
//!
//! The daemon is the one of `run`, with a configuration written to a file; it does not know that its portals, broker,
//! payment files and mail server are played by this room.

pub mod broker;
pub mod devices;
pub mod mail;
mod past;
pub mod payments;
pub mod portal;
pub mod site;
mod story;
pub mod uplink;
mod usage;

use crate::daemon;
use anyhow::Context;
use devices::Script;
use mail::Mailbox;
use portal::{Authority, Portal};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The agencies that the story happens to, and what their portals are called.
const PORTALS: [(&str, &str, &str); 3] = [
    ("dvc-tam-ky", "Cổng dịch vụ công TP. Tam Kỳ", "tam-ky"),
    ("dvc-hoi-an", "Cổng dịch vụ công TP. Hội An", "hoi-an"),
    ("dvc-thang-binh", "Cổng dịch vụ công huyện Thăng Bình", "thang-binh"),
];
/// Between two reports of a device.
const TELEMETRY: Duration = Duration::from_secs(2);

/// Runs the demo until `shutdown`. Without `data_dir` everything stands in a new temporary directory, which is kept.
pub async fn run(
    listen: SocketAddr,
    data_dir: Option<PathBuf>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let dir = match data_dir {
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("ioc-watch-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let dir = dir.canonicalize().with_context(|| format!("finding {}", dir.display()))?;
    let stop = CancellationToken::new();
    let listen = free_if_zero(listen).await?;

    let authority = Authority::new()?;
    let mut portals = Vec::with_capacity(PORTALS.len());
    for (_, title, _) in PORTALS {
        portals.push(Portal::start(&authority, title, stop.clone()).await?);
    }
    let line = uplink::Uplink::start(stop.clone()).await?;
    let script = Script::new(&PORTALS.map(|(_, _, agency)| agency), TELEMETRY);
    let mqtt_port = tokio::task::spawn_blocking(broker::start).await??;
    let (mailbox, smtp_port) = start_mail(&dir, &stop).await?;
    let described: Vec<(&str, &str, &str, String)> = PORTALS
        .iter()
        .zip(&portals)
        .map(|((id, title, agency), portal)| (*id, *title, *agency, portal.url()))
        .collect();
    let outside = site::Outside {
        listen,
        ca_pem: &authority.ca_pem,
        portals: &described,
        mqtt_port,
        smtp_port,
        uplink: line.address,
        script: &script,
    };
    let config_file = site::write(&dir, &outside)?;
    past::write(&config_file, &script).await.context("writing the past week into the ledger")?;
    let files = payments::Files::new(&dir.join("payments"), site::zone())?;

    announce(listen, &dir);
    let devices = tokio::spawn(devices::run(mqtt_port, script.clone(), stop.clone()));
    let village = script.villages("thang-binh").first().copied().unwrap_or_default().to_string();
    let villages = script.all_villages();
    let scenes = story::Stage { portals, line, power: script.power(), village, villages, mailbox, files, listen };
    let telling = tokio::spawn(tell(scenes, stop.clone()));
    // Its sender must live: a closed channel would say that no hangup can come any more.
    let (_hangup, hangups) = tokio::sync::mpsc::channel(1);
    let outcome = daemon::run(&config_file, shutdown, hangups).await;
    stop.cancel();
    let _ = tokio::join!(devices, telling);
    if let Err(daemon::DaemonError::Configuration(problems)) = &outcome {
        eprint!("{}", crate::cli::check::report(problems));
    }
    outcome.context("running the daemon")?;
    eprintln!("Đã dừng. Thư và dữ liệu còn ở {} / stopped", dir.display());
    Ok(())
}

async fn tell(stage: story::Stage, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        told = story::tell(stage) => if let Err(error) = told {
            eprintln!("the story broke off: {error:#}");
        },
    }
}

/// The page must be in the configuration (for links), so the port is chosen before the daemon binds it.
async fn free_if_zero(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    Ok(listener.local_addr()?)
}

async fn start_mail(dir: &Path, stop: &CancellationToken) -> anyhow::Result<(Mailbox, u16)> {
    let mailbox = Mailbox::open(&dir.join("mail")).context("opening the mail directory")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(mail::run(listener, mailbox.clone(), stop.clone()));
    Ok((mailbox, port))
}

fn announce(listen: SocketAddr, dir: &Path) {
    println!("page http://{listen}/");
    println!("metrics http://{listen}/metrics");
    println!("incidents http://{listen}/incidents");
    println!("report http://{listen}/reports");
    println!("mails {}", dir.join("mail").display());
}
