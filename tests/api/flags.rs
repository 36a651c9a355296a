//! flags.
