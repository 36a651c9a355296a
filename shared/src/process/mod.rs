//! What a process is started with and what it reports: settings, logs, metrics and TLS roots.

pub mod config;
pub mod metrics;
pub mod telemetry;
pub mod tls;
