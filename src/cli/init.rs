//! `ioc-watch init`: a minimal, commented configuration to start from.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Init {
    /// Where to write ioc-watch.yml
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// Starts as an ordinary user: state under ./data, a service and a mail server on this machine.
const TEMPLATE: &str = include_str!("init.yml");

/// The file that is written.
const FILE: &str = "ioc-watch.yml";

impl Init {
    pub fn run(&self) -> ExitCode {
        let file = self.directory.join(FILE);
        match write(&self.directory, &file) {
            Ok(()) => {
                println!("{}", file.display());
                eprintln!(
                    "Next: edit the file, then\n  ioc-watch check --config {0}\n  ioc-watch run --config {0}",
                    file.display()
                );
                ExitCode::SUCCESS
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                eprintln!("error: {} exists already; nothing was written", file.display());
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("error: cannot write {}: {error}", file.display());
                ExitCode::FAILURE
            }
        }
    }
}

/// Never overwrites: the file is created or the call fails.
fn write(directory: &Path, file: &Path) -> std::io::Result<()> {
    // A regular file in the place of the directory fails with AlreadyExists, which would name the wrong culprit.
    if directory.exists() && !directory.is_dir() {
        return Err(std::io::Error::other(format!("{} is not a directory", directory.display())));
    }
    std::fs::create_dir_all(directory)?;
    std::fs::OpenOptions::new().write(true).create_new(true).open(file)?.write_all(TEMPLATE.as_bytes())
}
