//! The `demo` command: everything outside the daemon, simulated on real sockets.

pub mod broker;
pub mod devices;
pub mod mail;
