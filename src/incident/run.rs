//! The task that lets time pass for the incidents.

use super::stage::Incidents;
use crate::store::StoreError;
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The longest sleep of [`Incidents::run`]: a clock that jumps is noticed by then.
const TICK: Duration = Duration::from_secs(1);
/// How often the outbox is asked for mails that failed although it has not said so: another process may have noted it.
const ASK_FAILURES: Duration = Duration::from_secs(60);

impl Incidents {
    /// Calls [`Incidents::tick`] whenever something is due, and [`Incidents::take_failures`] when a mail failed, until
    /// `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut asked: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            let now = Timestamp::now();
            self.tick(now).await?;
            if asked.is_none_or(|asked| asked.elapsed() >= ASK_FAILURES) {
                self.take_failures(now).await?;
                asked = Some(Instant::now());
            }
            let next = self.state().open.values().filter_map(|open| open.due).min();
            let wait = next.and_then(|next| Duration::try_from(next.duration_since(Timestamp::now())).ok());
            // What was due before the tick and still is will not change within the next moments.
            let wait = wait.unwrap_or(TICK).clamp(Duration::from_millis(5), TICK);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.changed.notified() => {}
                () = self.outbox.failed() => asked = None,
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }
}
