//! This machine: processor, memory, load, disks, network. Our own process is the metrics room's business.

use crate::config::{Id, site::Host};
use crate::metrics::{Metrics, columns};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sysinfo::{CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, RefreshKind, System};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// More interfaces are not shown: container hosts make and drop them by the hundred.
const INTERFACES_MAX: usize = 64;
/// The use of a processor is measured between two readings; the first pair comes this soon.
const FIRST_PAIR: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("reading the state of this machine")]
    Read(#[source] sysinfo::Error),
    #[error("the reading of this machine's state was lost")]
    Lost(#[source] JoinError),
}

/// Measures this machine every `host.every` until `shutdown`. Its series belong to `agency`, the site agency.
pub async fn run(host: Host, agency: Id, metrics: Arc<Metrics>, shutdown: CancellationToken) -> Result<(), HostError> {
    retain(&metrics, &agency, &host.disks);
    let mut machine = blocking(Machine::new).await??;
    let mut disks: Option<JoinHandle<Result<Vec<DiskReading>, sysinfo::Error>>> = None;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FIRST_PAIR.min(host.every), host.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        // A file system that does not answer (NFS) blocks its reader for ever; the rest goes on without it.
        if disks.as_ref().is_none_or(JoinHandle::is_finished) {
            if let Some(ended) = disks.take() {
                show_disks(&metrics, &agency, &ended.await.map_err(HostError::Lost)?.map_err(HostError::Read)?);
            }
            let paths = host.disks.clone();
            disks = Some(spawn_blocking(move || read_disks(&paths)));
            // Usually done in a moment; then this tick shows it already.
            if let Some(running) = &mut disks
                && let Ok(ended) = tokio::time::timeout(Duration::from_millis(100), running).await
            {
                disks = None;
                show_disks(&metrics, &agency, &ended.map_err(HostError::Lost)?.map_err(HostError::Read)?);
            }
        }
        machine = blocking(move || {
            machine.refresh();
            machine
        })
        .await?;
        machine.show(&metrics, &agency);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, HostError> {
    spawn_blocking(work).await.map_err(HostError::Lost)
}

impl From<sysinfo::Error> for HostError {
    fn from(error: sysinfo::Error) -> HostError {
        HostError::Read(error)
    }
}

/// Ends the series of an earlier configuration.
fn retain(metrics: &Metrics, agency: &Id, disks: &[PathBuf]) {
    let mounts: HashSet<String> = disks.iter().map(|path| path.display().to_string()).collect();
    let ours = |labels: &[&str]| *labels[0] == **agency;
    for table in [columns::host::TABLE, columns::host_core::TABLE, columns::host_network::TABLE] {
        metrics.table(table).retain(ours);
    }
    metrics.table(columns::host_disk::TABLE).retain(|labels| ours(labels) && mounts.contains(labels[1]));
}

/// What is read quickly.
struct Machine {
    system: System,
    networks: Networks,
}

impl Machine {
    fn new() -> Result<Machine, sysinfo::Error> {
        let kind = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Ok(Machine { system: System::new_with_specifics(kind)?, networks: Networks::new_with_refreshed_list()? })
    }

    fn refresh(&mut self) {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.networks.refresh(true);
    }

    fn show(&self, metrics: &Metrics, agency: &Id) {
        use columns::{host, host_core, host_network};
        let (load, uptime) = (System::load_average(), System::uptime());
        let table = metrics.table(host::TABLE);
        table.update(table.row(&[agency]), |cells| {
            cells.set(host::CPU_RATIO, ratio(self.system.global_cpu_usage()));
            cells.set(host::MEMORY_TOTAL, self.system.total_memory() as f64);
            cells.set(host::MEMORY_AVAILABLE, self.system.available_memory() as f64);
            match load {
                Ok(load) => {
                    cells.set(host::LOAD1, load.one);
                    cells.set(host::LOAD5, load.five);
                    cells.set(host::LOAD15, load.fifteen);
                }
                Err(_) => [host::LOAD1, host::LOAD5, host::LOAD15].into_iter().for_each(|load| cells.clear(load)),
            }
            match uptime {
                Ok(seconds) => cells.set(host::UPTIME, seconds as f64),
                Err(_) => cells.clear(host::UPTIME),
            }
        });
        let table = metrics.table(host_core::TABLE);
        for (core, cpu) in self.system.cpus().iter().enumerate() {
            let row = table.row(&[agency, &core.to_string()]);
            table.set(row, host_core::CPU_RATIO, ratio(cpu.usage()));
        }
        let mut names: Vec<String> = self.networks.keys().map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names.truncate(INTERFACES_MAX);
        let table = metrics.table(host_network::TABLE);
        table.retain(|labels| names.binary_search_by(|name| name.as_str().cmp(labels[1])).is_ok());
        for (name, data) in self.networks.iter() {
            let name = name.to_string_lossy();
            if names.binary_search_by(|listed| listed.as_str().cmp(&name)).is_err() {
                continue;
            }
            table.update(table.row(&[agency, &name]), |cells| {
                cells.set(host_network::RECEIVED, data.total_received() as f64);
                cells.set(host_network::TRANSMITTED, data.total_transmitted() as f64);
            });
        }
    }
}

/// Per cent to a share; the first readings of a busy machine can exceed 100 %.
fn ratio(percent: f32) -> f64 {
    (f64::from(percent) / 100.0).clamp(0.0, 1.0)
}

struct DiskReading {
    path: PathBuf,
    /// Size and free bytes; `None` if no file system holds the path.
    bytes: Option<(u64, u64)>,
}

/// The file system that holds each path. Others are not touched.
fn read_disks(paths: &[PathBuf]) -> Result<Vec<DiskReading>, sysinfo::Error> {
    let mut disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing())?;
    let mut read = |path: &Path| {
        let holder = disks
            .iter_mut()
            .filter(|disk| path.starts_with(disk.mount_point()))
            .max_by_key(|disk| disk.mount_point().as_os_str().len())?;
        holder.refresh_specifics(DiskRefreshKind::nothing().with_storage());
        (holder.total_space() > 0).then(|| (holder.total_space(), holder.available_space()))
    };
    Ok(paths.iter().map(|path| DiskReading { path: path.clone(), bytes: read(path) }).collect())
}

fn show_disks(metrics: &Metrics, agency: &Id, readings: &[DiskReading]) {
    use columns::host_disk;
    let table = metrics.table(host_disk::TABLE);
    for DiskReading { path, bytes } in readings {
        let row = table.row(&[agency, &path.display().to_string()]);
        table.update(row, |cells| match bytes {
            Some((size, free)) => {
                cells.set(host_disk::SIZE, *size as f64);
                cells.set(host_disk::FREE, *free as f64);
            }
            None => {
                cells.clear(host_disk::SIZE);
                cells.clear(host_disk::FREE);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[tokio::test]
    async fn measures_the_machine_and_forgets_what_is_no_longer_configured() {
        let metrics = Arc::new(Metrics::new());
        let agency = Id::parse("ioc").unwrap();
        let disks = metrics.table(columns::host_disk::TABLE);
        disks.set(disks.row(&["ioc", "/gone"]), columns::host_disk::SIZE, 1.0);
        let host = Host { every: Duration::from_millis(50), disks: vec![PathBuf::from("/")] };
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(host, agency, metrics.clone(), stop.clone()));
        let wanted = [
            "ioc_host_cpu_usage_ratio{agency=\"ioc\"} ",
            "ioc_host_memory_available_bytes{agency=\"ioc\"} ",
            "ioc_host_load1{agency=\"ioc\"} ",
            "ioc_host_uptime_seconds{agency=\"ioc\"} ",
            "ioc_host_core_usage_ratio{agency=\"ioc\",core=\"0\"} ",
            "ioc_host_disk_free_bytes{agency=\"ioc\",mount=\"/\"} ",
            "ioc_host_network_receive_bytes_total{agency=\"ioc\",interface=\"lo\"} ",
        ];
        let seen = tokio::time::timeout(Duration::from_secs(20), async {
            while !wanted.iter().all(|line| metrics.render(Format::Text).contains(line)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let page = metrics.render(Format::Text);
        assert!(seen.is_ok(), "{page}");
        assert!(!page.contains("/gone"));
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}
