//! The database: connections, statements and lists. It knows no table.

mod columns;
mod conditions;
mod pool;
mod statements;
mod transaction;

pub use self::columns::{Column, Fields, add_row, insert_row, insert_row_returning, update_row};
pub use self::conditions::Conditions;
pub use self::pool::{Db, TIDIED_AT_ONCE};
pub use self::statements::{
    Executor, execute, in_chunks, query, query_keys, query_one, query_opt, query_planned,
    wrote_null,
};
pub(crate) use self::transaction::Line;
pub use self::transaction::Transaction;
