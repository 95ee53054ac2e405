//! One daemon a data directory: a lock that the kernel lets go of however the daemon ends.

use super::StoreError;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Beside the state database.
const NAME: &str = "lock";

/// The data directory is this process's while this lives.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes `data_dir` (which is made if it is not there) for this process, or says who has it.
    pub fn take(data_dir: &Path) -> Result<DataLock, StoreError> {
        let failed = |error| StoreError::DataDir(data_dir.into(), error);
        std::fs::create_dir_all(data_dir).map_err(failed)?;
        let path = data_dir.join(NAME);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only to name it: who cannot be named holds it all the same.
                let _ = Read::take(&file, 20).read_to_string(&mut holder);
                let holder = holder.trim();
                let who = if holder.is_empty() { "unknown" } else { holder };
                return Err(StoreError::InUse(data_dir.into(), who.to_string()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // A full disk must not keep the daemon from starting: the number is for messages alone.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DataLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let held = DataLock::take(&data).unwrap();
        let refused = DataLock::take(&data).unwrap_err().to_string();
        let expected = format!(
            "another ioc-watch (process {}) runs on the data directory {}; give each daemon a data_dir of its own",
            std::process::id(),
            data.display()
        );
        assert_eq!(refused, expected);
        drop(held);
        DataLock::take(&data).unwrap();
    }
}
