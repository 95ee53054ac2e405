//! The subcommands, one file each. Results go to stdout, messages to stderr; exit codes: 0 done, 1 problems, 2 wrong
//! usage.

pub mod check;
#[cfg(feature = "demo")]
mod demo;
mod evaluate;
mod explain;
mod hash_password;
mod init;
mod mail_preview;
mod mail_test;
mod mqtt_watch;
mod probe;
mod reconcile;
pub mod run;
mod test_rules;
mod who;

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
    /// The daemon
    Run(run::Run),
    /// Write a minimal, commented configuration to start from
    Init(init::Init),
    /// Print every problem of a configuration and of the files it names
    Check(check::Check),
    /// Everything, simulated on real sockets; prints the URLs and tells its story
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// Reconcile two payment files once, or explain a payment
    Reconcile(reconcile::Reconcile),
    /// Run unit tests of rules, as promtool test rules does
    TestRules(test_rules::TestRules),
    /// Check a service or an address once and print the phases
    Probe(probe::Arguments),
    /// Render a week's report again and compare it with the stored one
    Evaluate(evaluate::Arguments),
    /// Render one mail of every kind with made-up content, to see what readers get
    MailPreview(mail_preview::MailPreview),
    /// Send one mail to a person, to see that the way works
    MailTest(mail_test::MailTest),
    /// Show live what arrives over MQTT, how it is decoded and why it is rejected
    MqttWatch(mqtt_watch::MqttWatch),
    /// Explain who would be told of an incident, when and why
    Who(who::Who),
    /// Read a password and print its hash for users_file
    HashPassword(hash_password::HashPassword),
}

/// Parses the arguments and runs the subcommand.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Check(command) => command.run(),
        #[cfg(feature = "demo")]
        Command::Demo(command) => command.run(),
        Command::Reconcile(arguments) => reconcile::run(&arguments),
        Command::TestRules(command) => command.run(),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::MailPreview(command) => command.run(),
        Command::MailTest(command) => command.run(),
        Command::MqttWatch(command) => command.run(),
        Command::Who(command) => command.run(),
        Command::HashPassword(command) => command.run(),
    }
}
