//! Runs the daemon's long tasks: starts them, starts them again when they fail or panic, and stops them in time.
//!
//! A task is a factory: each run gets a fresh future, so that nothing half-done survives a panic. Tasks stand in groups;
//! a reload stops the group of the old configuration and fills a new one, while other groups go on. What tasks do is
//! no business of this file.

use crate::metrics::Metrics;
use crate::web::StatusBoard;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The first wait before a task is started again; it doubles from there.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait before a task is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A task that ran this long was healthy: its next failure waits [`BACKOFF_MIN`] again.
const HEALTHY_AFTER: Duration = Duration::from_secs(600);

type Factory = Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// All supervised tasks of the process.
pub struct Supervisor {
    metrics: Arc<Metrics>,
    board: StatusBoard,
    shutdown: CancellationToken,
    groups: Mutex<Vec<Group>>,
}

/// Tasks that stop together. A handle; cheap to clone.
#[derive(Clone)]
pub struct Group {
    metrics: Arc<Metrics>,
    board: StatusBoard,
    token: CancellationToken,
    tasks: Arc<Mutex<Vec<Task>>>,
}

struct Task {
    name: String,
    handle: JoinHandle<()>,
}

impl Supervisor {
    /// `board` is told how each task fares.
    pub fn new(metrics: Arc<Metrics>, board: StatusBoard) -> Supervisor {
        Supervisor { metrics, board, shutdown: CancellationToken::new(), groups: Mutex::default() }
    }

    /// Cancelled when the shutdown begins.
    pub fn token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// An empty group. Stopped by [`Group::stop`] or, at the latest, by [`Supervisor::shutdown`].
    pub fn group(&self) -> Group {
        let group = Group {
            metrics: self.metrics.clone(),
            board: self.board.clone(),
            token: self.shutdown.child_token(),
            tasks: Arc::default(),
        };
        let mut groups = lock(&self.groups);
        // A group that was stopped has nothing to join any more.
        groups.retain(|group| !group.token.is_cancelled() || !lock(&group.tasks).is_empty());
        groups.push(group.clone());
        group
    }

    /// Cancels every task and waits for all of them, at most `grace`. What has not ended then is aborted; its names are
    /// logged and returned.
    pub async fn shutdown(&self, grace: Duration) -> Vec<String> {
        self.shutdown.cancel();
        let tasks = lock(&self.groups).drain(..).flat_map(|group| std::mem::take(&mut *lock(&group.tasks))).collect();
        join(tasks, grace).await
    }
}

impl Group {
    /// Starts a task. `run` is called for each (re)start with a token; the future returns after the token is cancelled.
    /// One that returns earlier, fails or panics is started again after a wait of 1 s to 60 s, and counted.
    pub fn spawn<F, Fut, E>(&self, name: &str, run: F)
    where
        F: Fn(CancellationToken) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        // The counter exists from the start, so that its first increase is seen.
        self.metrics.own.task_restarts.with_label_values(&[name]).inc_by(0);
        let factory: Factory = Arc::new(move |token| {
            let future = run(token);
            Box::pin(async move { future.await.map_err(Into::into) })
        });
        let handle = tokio::spawn(supervise(
            name.to_string(),
            self.metrics.clone(),
            self.board.clone(),
            self.token.clone(),
            factory,
        ));
        lock(&self.tasks).push(Task { name: name.to_string(), handle });
    }

    /// Cancels the group's tasks and waits for them as [`Supervisor::shutdown`] does.
    pub async fn stop(&self, grace: Duration) -> Vec<String> {
        self.token.cancel();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        join(tasks, grace).await
    }
}

async fn supervise(
    name: String,
    metrics: Arc<Metrics>,
    board: StatusBoard,
    token: CancellationToken,
    factory: Factory,
) {
    let mut failures = 0;
    while !token.is_cancelled() {
        let started = Instant::now();
        board.task_started(&name, Timestamp::now());
        let run = {
            let (factory, token) = (factory.clone(), token.clone());
            // Called inside the task, so that a panic of the factory itself is caught too.
            tokio::spawn(async move { factory(token).await })
        };
        let ended = AbortOnDrop(run).join().await;
        let message = match ended {
            _ if token.is_cancelled() && matches!(ended, Ok(Ok(()))) => return,
            Ok(Ok(())) => "it returned although nobody stopped it".to_string(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => panic_message(error),
        };
        if token.is_cancelled() {
            tracing::warn!(task = name, error = message, "task {name} failed while stopping: {message}");
            return;
        }
        if started.elapsed() >= HEALTHY_AFTER {
            failures = 0;
        }
        let wait = backoff(failures);
        failures += 1;
        board.task_failed(&name, &message, Timestamp::now());
        metrics.own.task_restarts.with_label_values(&[&name]).inc();
        tracing::error!(
            task = name,
            error = message,
            wait_seconds = wait.as_secs(),
            "task {name} ended and starts again in {} s: {message}",
            wait.as_secs()
        );
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How long to wait after the n-th failure in a row (from 0).
fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX)
}

async fn join(tasks: Vec<Task>, grace: Duration) -> Vec<String> {
    let deadline = Instant::now() + grace;
    let mut late = Vec::new();
    for mut task in tasks {
        match tokio::time::timeout_at(deadline, &mut task.handle).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let message = panic_message(error);
                tracing::error!(task = task.name, "the supervisor of task {} failed: {message}", task.name);
            }
            Err(_) => {
                task.handle.abort();
                late.push(task.name);
            }
        }
    }
    if !late.is_empty() {
        let names = late.join(", ");
        tracing::warn!(tasks = names, "not stopped within {} s, aborted: {names}", grace.as_secs());
    }
    late
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => {
            // The payload is a `String` or `&str` for every panic! of ours; its own drop is not our concern.
            let payload = AssertUnwindSafe(payload);
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_string());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            format!("panic: {}", text.as_deref().unwrap_or("without a message"))
        }
        Err(error) => error.to_string(),
    }
}

/// A task that ends with whoever waits for it.
pub(super) struct AbortOnDrop<T>(pub(super) JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics under these locks; each holds a list that is valid after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn board() -> StatusBoard {
        StatusBoard::new(Timestamp::UNIX_EPOCH)
    }

    fn restarts(metrics: &Metrics, task: &str) -> u64 {
        metrics.own.task_restarts.with_label_values(&[task]).get()
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute() {
        let seconds: Vec<u64> = (0..9).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(u32::MAX).as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_panics_or_returns_is_started_again_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::new(metrics.clone(), board());
        let runs = Arc::new(AtomicU32::new(0));
        let seen = runs.clone();
        supervisor.group().spawn("moody", move |token| {
            let run = seen.fetch_add(1, Ordering::SeqCst);
            assert_ne!(run, 3, "in the factory");
            async move {
                match run {
                    0 => anyhow::bail!("no"),
                    1 => panic!("ouch"),
                    2 => return Ok(()),
                    _ => {}
                }
                token.cancelled().await;
                Ok::<(), anyhow::Error>(())
            }
        });
        assert_eq!(restarts(&metrics, "moody"), 0);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!((runs.load(Ordering::SeqCst), restarts(&metrics, "moody")), (2, 2));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!((runs.load(Ordering::SeqCst), restarts(&metrics, "moody")), (5, 4));
        assert!(supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn ten_healthy_minutes_shorten_the_wait_again() {
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::new(metrics.clone(), board());
        let starts = Arc::new(Mutex::new(Vec::new()));
        let (seen, begin) = (starts.clone(), Instant::now());
        supervisor.group().spawn("long", move |_| {
            let mut starts = lock(&seen);
            starts.push(begin.elapsed().as_secs());
            let runs_for = if starts.len() == 4 { HEALTHY_AFTER } else { Duration::ZERO };
            async move {
                tokio::time::sleep(runs_for).await;
                Err::<(), _>(anyhow::anyhow!("no"))
            }
        });
        tokio::time::sleep(Duration::from_secs(609)).await;
        assert_eq!(*lock(&starts), [0, 1, 3, 7, 608]);
        supervisor.shutdown(Duration::ZERO).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_stops_alone_and_the_shutdown_names_who_did_not_stop() {
        let supervisor = Supervisor::new(Arc::new(Metrics::new()), board());
        let (old, kept) = (supervisor.group(), supervisor.group());
        let alive = Arc::new(());
        for (group, name) in [(&old, "old"), (&kept, "kept")] {
            let alive = alive.clone();
            group.spawn(name, move |token| {
                let alive = alive.clone();
                async move {
                    token.cancelled().await;
                    drop(alive);
                    Ok::<(), anyhow::Error>(())
                }
            });
        }
        let stubborn = alive.clone();
        kept.spawn("stubborn", move |_| {
            let stubborn = stubborn.clone();
            async move {
                std::future::pending::<()>().await;
                drop(stubborn);
                Ok::<(), anyhow::Error>(())
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(old.stop(Duration::from_secs(1)).await.is_empty());
        assert!(!supervisor.token().is_cancelled());
        assert_eq!(supervisor.shutdown(Duration::from_secs(10)).await, ["stubborn"]);
        // The abort reaches the task itself, not only its supervisor.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_restart_does_not_delay_the_stop() {
        let supervisor = Supervisor::new(Arc::new(Metrics::new()), board());
        let group = supervisor.group();
        group.spawn("failing", |_| async { Err::<(), _>(anyhow::anyhow!("no")) });
        tokio::time::sleep(Duration::from_secs(100)).await;
        let begin = Instant::now();
        assert!(supervisor.shutdown(Duration::from_secs(10)).await.is_empty());
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
