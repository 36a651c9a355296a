//! What operators ask of the run and tell it.
