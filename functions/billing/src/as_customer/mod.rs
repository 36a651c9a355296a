//! What customers see, as operators look at it: the same answers, read in customers' role of the
//! database, so that nothing is there that a customer would not see.

pub(crate) mod billing_status;
pub(crate) mod entitlements;
pub(crate) mod organization;
