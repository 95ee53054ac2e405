//! The command line only; the rest is the library.

use std::os::unix::process::CommandExt;

/// Of what a large fleet leaves behind, the C library's allocator gives back little and takes longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many milliseconds it keeps what was freed before the system gets it back. It would be a second: of a fleet of
/// 100,000 devices that were 30 MB more, and no less work.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "20");

fn main() -> std::process::ExitCode {
    start_with_purge_delay();
    end_quietly_without_a_reader();
    ioc_watch::install_tls_provider();
    ioc_watch::cli::main()
}

/// The allocator reads its options before anything else runs, so the daemon puts itself in its own place with them. Where
/// it cannot, it runs without. Somebody else's choice holds.
fn start_with_purge_delay() {
    let (name, value) = PURGE_DELAY;
    let is_daemon = std::env::args_os().nth(1).is_some_and(|command| command == "run" || command == "demo");
    if !is_daemon || std::env::var_os(name).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // Comes back only if it failed.
        let _ = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec();
    }
}

/// A reader that has seen enough (`| head`) closes our stdout: the end of the output, not a failure to explain.
fn end_quietly_without_a_reader() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if message.starts_with("failed printing to stdout") {
            std::process::exit(0);
        }
        otherwise(panic);
    }));
}
