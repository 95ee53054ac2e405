//! The `demo` command: everything outside the daemon, simulated on real sockets.

pub mod mail;
