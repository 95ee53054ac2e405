//! The command line only; the rest is the library.

/// Of what a large fleet leaves behind, the C library's allocator gives back little and takes longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    end_quietly_without_a_reader();
    ioc_watch::install_tls_provider();
    ioc_watch::cli::main()
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
