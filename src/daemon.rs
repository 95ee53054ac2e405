//! Wires, supervises, reloads, shuts down.
