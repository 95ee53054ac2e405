//! Wires, supervises, reloads, shuts down.

pub mod supervisor;
