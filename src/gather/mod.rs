//! What is watched, one room each. Gatherers write metrics and state intervals; they do not know each other, nor rules,
//! incidents or mail.

pub mod device;
pub mod host;
pub mod payment;
pub mod service;
pub mod usage;
