//! The command line only; the rest is the library.

fn main() -> std::process::ExitCode {
    ioc_watch::install_tls_provider();
    ioc_watch::cli::main()
}
