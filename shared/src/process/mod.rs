//! What a process is started with and what it reports: settings, time, logs, metrics and TLS roots.

pub mod business_time;
pub mod config;
pub mod metrics;
pub mod telemetry;
pub mod tls;
