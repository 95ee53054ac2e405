//! The subcommands, one file each. Results go to stdout, messages to stderr; exit codes: 0 done, 1 problems, 2 wrong
//! usage.

pub mod check;
mod init;
mod reconcile;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "ioc-watch", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Reconcile(reconcile::Reconcile),
    /// Prints every problem of a configuration and of the files it names
    Check(check::Check),
    /// Writes a minimal, commented configuration to start from
    Init(init::Init),
}

/// Parses the arguments and runs the subcommand.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Reconcile(arguments) => reconcile::run(&arguments),
        Command::Check(command) => command.run(),
        Command::Init(command) => command.run(),
    }
}
