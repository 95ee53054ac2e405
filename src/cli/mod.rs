//! The subcommands, one file each. Results go to stdout, messages to stderr; exit codes: 0 done, 1 problems, 2 wrong
//! usage.

pub mod check;
mod init;
mod mail_test;

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
    /// Prints every problem of a configuration and of the files it names
    Check(check::Check),
    /// Writes a minimal, commented configuration to start from
    Init(init::Init),
    /// Sends one test mail to one person
    MailTest(mail_test::MailTest),
}

/// Parses the arguments and runs the subcommand.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Check(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::MailTest(command) => command.run(),
    }
}
