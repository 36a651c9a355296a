//! The database: connections, statements and lists. It knows no table.

mod columns;
mod conditions;
mod pool;
mod statements;

pub use self::columns::{Column, insert_row, insert_row_returning, update_row};
pub use self::conditions::{Conditions, Planner};
pub use self::pool::{Db, TIDIED_AT_ONCE};
pub use self::statements::{
    execute, in_chunks, prepare_keys, query, query_keys, query_one, query_opt,
};
