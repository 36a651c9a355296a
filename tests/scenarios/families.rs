//! families.
