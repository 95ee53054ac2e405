//! A directory of delimited files or workbooks: polls it, waits for half-written files, reads each content once.
//!
//! A content is known by its hash, so a renamed copy is not read twice and a known name with new content is. A file that
//! could not be used as a whole, and one with rejected rows, is tried again only when it changes or when the way its
//! columns are read does.

use super::csv::Place as FilePlace;
use super::footer::Check;
use super::positions::{self, FileState, Position};
use super::reader::{Batch, Delimited, Dialect, Digested, Opened, Reader, digest, hex};
use super::rejected::{Keeper, RejectedRow};
use super::sheet::Sheet;
use super::transcode;
use super::watch::{Ready, Seen, Watch, glob, list};
use super::{FeedError, Gatherer, Place, Polled, Reason};
use crate::config::feeds::{Feed, Files, Form};
use crate::metrics::columns::{feed as columns, feed_rejected};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory of files.
pub struct Directory {
    feed: Feed,
    dir: PathBuf,
    pattern: regex::Regex,
    form: Form,
    footer: Option<Check>,
    /// Digest of how columns are read.
    mapping: String,
    watch: Watch,
}

impl Directory {
    pub fn new(feed: &Feed, files: &Files) -> Directory {
        let Files { dir, pattern, form, footer } = files;
        let manner = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {form:?} {footer:?}",
            feed.columns, feed.only, feed.status_map, feed.time_format, feed.timezone, feed.amount
        );
        Directory {
            feed: feed.clone(),
            dir: dir.clone(),
            pattern: glob(pattern),
            form: form.clone(),
            footer: footer.as_ref().map(Check::new),
            mapping: hex(&Sha256::digest(manner))[..16].to_string(),
            watch: Watch::default(),
        }
    }

    /// The feed's id, its label value.
    pub fn id(&self) -> &str {
        &self.feed.id
    }

    /// Looks once, and reads what is ready. An error concerns one file or the directory; the next poll tries again.
    pub async fn poll<G: Gatherer>(
        &mut self,
        place: &Place,
        gatherer: &Arc<G>,
        now: Timestamp,
    ) -> Result<Polled, FeedError> {
        let (dir, pattern) = (self.dir.clone(), self.pattern.clone());
        let listing = blocking(&self.dir, move || list(&dir, &pattern).map_err(|error| FeedError::List(dir, error)));
        let ready = self.watch.step(listing.await?);
        let mut polled = Polled::default();
        // One file that cannot be read must not hold up those after it.
        let mut first_error = None;
        for file in ready {
            if let Err(error) = self.read(place, gatherer, &file, now, &mut polled).await {
                first_error = first_error.or(Some(error));
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        let table = place.metrics.table(columns::TABLE);
        let row = table.row(&[place.org.site().as_str(), self.id()]);
        table.set(row, columns::LAST_SUCCESS, now.as_millisecond() as f64 / 1000.0);
        Ok(polled)
    }

    async fn read<G: Gatherer>(
        &mut self,
        place: &Place,
        gatherer: &Arc<G>,
        file: &Ready,
        now: Timestamp,
        polled: &mut Polled,
    ) -> Result<(), FeedError> {
        let seen = &file.seen;
        let known = positions::by_seen(&place.store, self.id(), seen).await?;
        if known.is_some_and(|known| known.is_final(&self.mapping)) {
            self.watch.done(seen);
            return Ok(());
        }
        let path = self.dir.join(&seen.name);
        let digested = blocking(&path.clone(), move || digest(&path)).await?;
        let ends = match self.form {
            Form::Delimited { encoding, .. } => {
                transcode::ends_line(transcode::effective(encoding, digested.begins), digested.ends)
            }
            // Its directory stands at its end, which opening it finds.
            Form::Workbook { .. } => true,
        };
        let is_whole = digested.length == seen.size && (ends || file.settled);
        if !is_whole {
            return Ok(());
        }
        let known = positions::by_hash(&place.store, self.id(), &digested.hash).await?;
        let position = match known {
            Some(known) if known.is_final(&self.mapping) => {
                self.watch.done(seen);
                return Ok(());
            }
            // Goes on where an earlier run stopped, unless columns are read differently now.
            Some(known) if known.state == FileState::Reading && known.mapping == self.mapping => known,
            _ => Position::start(digested.hash.clone(), self.mapping.clone()),
        };
        if self.read_content(place, gatherer, file, &digested, position, now, polled).await? {
            self.watch.done(seen);
            polled.files += 1;
        }
        Ok(())
    }

    /// `false`: the file is not whole yet.
    #[expect(clippy::too_many_arguments, reason = "the parts of one file's reading, used only here")]
    async fn read_content<G: Gatherer>(
        &self,
        place: &Place,
        gatherer: &Arc<G>,
        file: &Ready,
        digested: &Digested,
        mut position: Position,
        now: Timestamp,
        polled: &mut Polled,
    ) -> Result<bool, FeedError> {
        let seen = &file.seen;
        let path = self.dir.join(&seen.name);
        let _one_workbook = match self.form {
            Form::Workbook { .. } => Some(place.workbooks.lock().await),
            Form::Delimited { .. } => None,
        };
        let keeper = Keeper::new(&place.data_dir, self.id(), &seen.name.to_string_lossy(), &position.hash);
        let reader = match self.open(&path, digested, position.place, file.settled, gatherer).await? {
            Opened::Reader(reader) => reader,
            Opened::Unfinished => return Ok(false),
            Opened::Refused(row) => {
                position.state = FileState::Refused;
                let batch = Batch::new(&**gatherer, Vec::new(), vec![row], position.place, true).broken(true);
                self.commit(place, gatherer, seen, &keeper, &mut position, batch, now, polled).await?;
                return Ok(true);
            }
        };
        let read = |mut reader: Reader| {
            let parser = Arc::clone(gatherer);
            blocking(&path, move || {
                let batch = reader.batch(&*parser, now)?;
                Ok((reader, batch))
            })
        };
        let (mut reader, mut batch) = read(reader).await?;
        loop {
            let finished = batch.finished;
            position.place = batch.place;
            if finished {
                position.state = FileState::Done;
            }
            let committed = self.commit(place, gatherer, seen, &keeper, &mut position, batch, now, polled);
            if finished {
                committed.await?;
                let (feed, file) = (self.id(), seen.name.to_string_lossy());
                let (accepted, rejected) = (position.accepted, position.rejected);
                tracing::info!(feed, %file, accepted, rejected, "read a file");
                return Ok(true);
            }
            // What follows is parsed while this is written.
            (_, (reader, batch)) = tokio::try_join!(committed, read(reader))?;
        }
    }

    async fn open<G: Gatherer>(
        &self,
        path: &Path,
        digested: &Digested,
        at: FilePlace,
        settled: bool,
        gatherer: &Arc<G>,
    ) -> Result<Opened, FeedError> {
        let (file, feed, footer, gatherer) =
            (path.to_path_buf(), self.feed.clone(), self.footer.clone(), Arc::clone(gatherer));
        let length = digested.length;
        match &self.form {
            Form::Delimited { delimiter, encoding } => {
                let encoding = transcode::effective(*encoding, digested.begins);
                let dialect = Dialect { delimiter: *delimiter, encoding };
                blocking(path, move || Delimited::open(&file, &feed, dialect, footer, length, at, settled, &*gatherer))
                    .await
            }
            Form::Workbook { sheet } => {
                let sheet = sheet.clone();
                blocking(path, move || {
                    Sheet::open(&file, &feed, sheet.as_deref(), footer, length, at, settled, &*gatherer)
                })
                .await
            }
        }
    }

    /// Writes a batch and the position after it in one transaction.
    #[expect(clippy::too_many_arguments, reason = "the parts of one file's reading, used only here")]
    async fn commit<G: Gatherer>(
        &self,
        place: &Place,
        gatherer: &Arc<G>,
        seen: &Seen,
        keeper: &Keeper,
        position: &mut Position,
        batch: Batch<G::Ready>,
        now: Timestamp,
        polled: &mut Polled,
    ) -> Result<(), FeedError> {
        let (accepted, rejected) = (batch.accepted, batch.rejected.len() as u64);
        let mut reasons: Vec<Reason> = Vec::with_capacity(batch.rejected.len());
        if rejected > 0 {
            reasons.extend(batch.rejected.iter().map(|row| row.rejection.reason));
            let (keep, length, source) = (keeper.clone(), position.rejected_bytes, self.dir.join(&seen.name));
            let (rows, whole): (Vec<RejectedRow>, bool) = (batch.rejected, batch.broken);
            position.rejected_bytes = blocking(&source.clone(), move || {
                if whole {
                    keep.copy(&source)?;
                }
                keep.append(length, &rows)
            })
            .await?;
            let (feed, file) = (self.id(), seen.name.to_string_lossy());
            tracing::warn!(feed, %file, rejected, first = reasons[0].as_str(), "rows could not be used and are kept");
        }
        position.accepted += accepted;
        position.rejected += rejected;
        let mut tx = place.store.begin().await?;
        if let Some(rows) = batch.rows {
            gatherer.write(&mut tx, rows, now).await?;
        }
        positions::save(&mut tx, self.id(), seen, position, now).await?;
        if accepted > 0 {
            super::late::note(&mut tx, self.id(), true, now).await?;
        }
        tx.commit().await?;

        polled.accepted += accepted;
        polled.rejected += rejected;
        let agency = place.org.site().as_str();
        let table = place.metrics.table(columns::TABLE);
        table.add(table.row(&[agency, self.id()]), columns::ROWS, accepted as f64);
        let table = place.metrics.table(feed_rejected::TABLE);
        for reason in reasons {
            table.add(table.row(&[agency, self.id(), reason.as_str()]), feed_rejected::REJECTED, 1.0);
        }
        Ok(())
    }
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, FeedError> + Send + 'static,
) -> Result<T, FeedError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FeedError::Task(path.into(), error))?
}
