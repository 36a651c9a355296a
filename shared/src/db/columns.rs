//! A row's columns, listed once: SELECT, INSERT and UPDATE come from one list.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::statements::{execute, query_opt};
use super::transaction::Transaction;
use crate::{Error, Result};

/// A column's name, and its value in a row.
pub type Column<'a> = (&'static str, Box<dyn ToSql + Sync + Send + 'a>);

/// Reads a row's columns by their names, fast where they are asked for in the order in which they
/// were selected: to search each among all takes a tenth of a page of a hundred.
pub struct Fields<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Fields<'r> {
    /// From the first column on.
    #[must_use]
    pub fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    /// The value of this column.
    ///
    /// # Errors
    /// `Internal` for a column that was not selected; `Database` for a value of another type.
    pub fn get<T: FromSql<'r>>(&mut self, name: &str) -> Result<T> {
        let columns = self.row.columns();
        let is_it = |column: &tokio_postgres::Column| column.name() == name;
        let at = Some(self.next)
            .filter(|at| columns.get(*at).is_some_and(is_it))
            .or_else(|| columns.iter().position(is_it))
            .ok_or_else(|| Error::Internal(format!("no column {name} was selected")))?;
        self.next = at + 1;
        Ok(self.row.try_get(at)?)
    }
}

/// Lists the columns of a table's row once: those that are written once, and those that change.
///
/// `column` is the field of the same name, `column = expression` anything else. It makes a module
/// with `COLUMNS` (for a SELECT from the table by its alias), `insert` and `save`.
///
/// - `key` is the primary key; with `generated` the database assigns it, and `insert` returns it;
///   with `fresh` it is new for each row, and `add` inserts without a wait.
/// - `part save_it of field: Type { … } with { … }` lists columns of a struct within the row.
///   `save` writes them too; `save_it` writes only them and those under `with`, and `field` reads
///   them.
/// - `read` lists what is never written here, such as a count that has its own writer.
#[macro_export]
macro_rules! row {
    (
        mod $module:ident: $row:ident: $type:ty, $table:literal as $alias:literal,
        $kind:ident $key:ident,
        once { $($once:ident $(= $once_value:expr)?),* $(,)? }
        changes { $($column:ident $(= $value:expr)?),* $(,)? }
        $(part $save_part:ident of $field:ident: $part:ident { $($in_part:ident),* $(,)? }
            with { $($stamp:ident),* $(,)? })?
        read { $($read:ident),* $(,)? }
    ) => {
        mod $module {
            #[expect(clippy::allow_attributes, reason = "whether it is needed is the caller's")]
            #[allow(unused_imports, reason = "a list of plain columns needs none")]
            use super::*;

            pub(crate) const COLUMNS: &str = concat!(
                $alias, ".", stringify!($key)
                $(, ", ", $alias, ".", stringify!($once))*
                $(, ", ", $alias, ".", stringify!($column))*
                $($(, ", ", $alias, ".", stringify!($in_part))*
                $(, ", ", $alias, ".", stringify!($stamp))*)?
                $(, ", ", $alias, ".", stringify!($read))*
            );

            fn once($row: &$type) -> Vec<$crate::db::Column<'_>> {
                vec![$((stringify!($once), Box::new(
                    $crate::column_value!($row, $once $(, $once_value)?)
                ))),*]
            }

            fn changing($row: &$type) -> Vec<$crate::db::Column<'_>> {
                vec![
                    $((stringify!($column), Box::new(
                        $crate::column_value!($row, $column $(, $value)?)
                    )),)*
                    $($((stringify!($in_part), Box::new(&$row.$field.$in_part)),)*
                    $((stringify!($stamp), Box::new(&$row.$stamp)),)*)?
                ]
            }

            $crate::insert_fn!($kind $key, $row: $type, $table);

            /// Saves what may change of the row, which is locked.
            pub(crate) async fn save(
                tx: &$crate::db::Transaction,
                $row: &$type,
            ) -> $crate::Result<()> {
                let key = (stringify!($key), Box::new(&$row.$key) as _);
                $crate::db::update_row(tx, $table, &key, &changing($row)).await
            }

            $(
                /// Saves only this part of the row, which is locked.
                pub(crate) async fn $save_part(
                    tx: &$crate::db::Transaction,
                    $row: &$type,
                ) -> $crate::Result<()> {
                    let key = (stringify!($key), Box::new(&$row.$key) as _);
                    let columns: Vec<$crate::db::Column<'_>> = vec![
                        $((stringify!($in_part), Box::new(&$row.$field.$in_part)),)*
                        $((stringify!($stamp), Box::new(&$row.$stamp)),)*
                    ];
                    $crate::db::update_row(tx, $table, &key, &columns).await
                }

                /// Reads this part from the row of a query for `COLUMNS`.
                pub(crate) fn $field(
                    row: &tokio_postgres::Row,
                ) -> $crate::Result<$part> {
                    Ok($part { $($in_part: row.try_get(stringify!($in_part))?),* })
                }
            )?
        }
    };
}

/// The `insert` of a `row!`; the `add` of one whose key is made anew for each row.
#[doc(hidden)]
#[macro_export]
macro_rules! insert_fn {
    (key $key:ident, $row:ident: $type:ty, $table:literal) => {
        /// Inserts the row; `tail` ends the statement. Returns how many rows were inserted.
        pub(crate) async fn insert(
            tx: &$crate::db::Transaction,
            $row: &$type,
            tail: &str,
        ) -> $crate::Result<u64> {
            let mut columns: Vec<$crate::db::Column<'_>> =
                vec![(stringify!($key), Box::new(&$row.$key))];
            columns.extend(once($row));
            columns.extend(changing($row));
            $crate::db::insert_row(tx, $table, &columns, tail).await
        }
    };
    (fresh $key:ident, $row:ident: $type:ty, $table:literal) => {
        /// Inserts the row, without a wait.
        pub(crate) async fn add(tx: &$crate::db::Transaction, $row: &$type) -> $crate::Result<()> {
            let mut columns: Vec<$crate::db::Column<'_>> =
                vec![(stringify!($key), Box::new(&$row.$key))];
            columns.extend(once($row));
            columns.extend(changing($row));
            $crate::db::add_row(tx, $table, &columns).await
        }
    };
    (generated $key:ident, $row:ident: $type:ty, $table:literal) => {
        /// Inserts the row; `tail` ends the statement before RETURNING. Returns the row's new key;
        /// `None` if nothing was inserted.
        pub(crate) async fn insert(
            tx: &$crate::db::Transaction,
            $row: &$type,
            tail: &str,
        ) -> $crate::Result<Option<tokio_postgres::Row>> {
            let mut columns = once($row);
            columns.extend(changing($row));
            let tail = format!("{tail} RETURNING {}", stringify!($key));
            $crate::db::insert_row_returning(tx, $table, &columns, &tail).await
        }
    };
}

/// A column's value: the field of its name, unless the list says otherwise.
#[doc(hidden)]
#[macro_export]
macro_rules! column_value {
    ($row:ident, $column:ident) => {
        &$row.$column
    };
    ($row:ident, $column:ident, $value:expr) => {
        $value
    };
}

#[doc(hidden)]
pub async fn insert_row(
    tx: &Transaction,
    table: &str,
    columns: &[Column<'_>],
    tail: &str,
) -> Result<u64> {
    execute(tx, &insert_sql(table, columns, tail), &values(columns)).await
}

#[doc(hidden)]
pub async fn add_row(tx: &Transaction, table: &str, columns: &[Column<'_>]) -> Result<()> {
    tx.write(&insert_sql(table, columns, ""), &values(columns)).await
}

#[doc(hidden)]
pub async fn insert_row_returning(
    tx: &Transaction,
    table: &str,
    columns: &[Column<'_>],
    tail: &str,
) -> Result<Option<Row>> {
    query_opt(tx, &insert_sql(table, columns, tail), &values(columns)).await
}

fn insert_sql(table: &str, columns: &[Column<'_>], tail: &str) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({}) {tail}", names.join(", "), places.join(", "))
}

#[doc(hidden)]
pub async fn update_row(
    tx: &Transaction,
    table: &str,
    key: &Column<'_>,
    columns: &[Column<'_>],
) -> Result<()> {
    let sets: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, (name, _))| format!("{name} = ${}", index + 2))
        .collect();
    let sql = format!("UPDATE {table} SET {} WHERE {} = $1", sets.join(", "), key.0);
    let mut params = values(std::slice::from_ref(key));
    params.extend(values(columns));
    tx.write(&sql, &params).await
}

fn values<'a>(columns: &'a [Column<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns.iter().map(|(_, value)| &**value as &(dyn ToSql + Sync)).collect()
}
