//! STUB
pub mod config;
pub mod close;
pub mod fleet;
pub mod metrics;
