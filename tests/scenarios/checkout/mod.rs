//! A checkout becomes a customer: the whole path from the signed delivery to the welcome mail, and
//! every way in which it is odd.

mod customer;
mod payload;
mod payment;
mod vain;
