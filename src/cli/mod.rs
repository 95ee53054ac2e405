//! The subcommands, one file each. Results go to stdout, messages to stderr; exit codes: 0 done, 1 problems, 2 wrong
//! usage.

mod probe;

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
    /// Check a service or an address once and print the phases.
    Probe(probe::Arguments),
}

/// Parses the arguments and runs the subcommand.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Probe(arguments) => probe::run(&arguments),
    }
}
