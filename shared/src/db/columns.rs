//! A row's columns, listed once: what is read, inserted and saved comes from one list.

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::statements::execute;

/// A column's name, and its value in a row.
pub type Column<'a> = (&'static str, Box<dyn ToSql + Sync + Send + 'a>);

/// Lists the columns of a table's row: those that are written once, and those that change after.
///
/// `column` is the field of the same name, `column = expression` anything else. It makes a module
/// with `COLUMNS` (for a SELECT, of the table by its alias), `insert` and `save`. What is only read,
/// such as a count that has its own writer, stands under `read`.
#[macro_export]
macro_rules! row {
    (
        mod $module:ident: $row:ident: $type:ty, $table:literal as $alias:literal, key $key:ident,
        once { $($once:ident $(= $once_value:expr)?),* $(,)? }
        changes { $($column:ident $(= $value:expr)?),* $(,)? }
        read { $($read:ident),* $(,)? }
    ) => {
        mod $module {
            #[expect(clippy::allow_attributes, reason = "whether it is needed is the caller's")]
            #[allow(unused_imports, reason = "a list of plain columns needs none")]
            use super::*;

            pub const COLUMNS: &str = concat!(
                $alias, ".", stringify!($key)
                $(, ", ", $alias, ".", stringify!($once))*
                $(, ", ", $alias, ".", stringify!($column))*
                $(, ", ", $alias, ".", stringify!($read))*
            );

            fn changing($row: &$type) -> Vec<$crate::db::Column<'_>> {
                vec![$((stringify!($column), Box::new(
                    $crate::column_value!($row, $column $(, $value)?)
                ))),*]
            }

            /// Inserts the row; `tail` is the statement's end. Returns how many rows it made.
            pub async fn insert(
                tx: &deadpool_postgres::Transaction<'_>,
                $row: &$type,
                tail: &str,
            ) -> std::result::Result<u64, tokio_postgres::Error> {
                let mut columns: Vec<$crate::db::Column<'_>> = vec![
                    (stringify!($key), Box::new(&$row.$key)),
                    $((stringify!($once), Box::new(
                        $crate::column_value!($row, $once $(, $once_value)?)
                    ))),*
                ];
                columns.extend(changing($row));
                $crate::db::insert_row(tx, $table, &columns, tail).await
            }

            /// Saves what may change of the row, which is locked.
            pub async fn save(
                tx: &deadpool_postgres::Transaction<'_>,
                $row: &$type,
            ) -> std::result::Result<u64, tokio_postgres::Error> {
                let key = (stringify!($key), Box::new(&$row.$key) as _);
                $crate::db::update_row(tx, $table, &key, &changing($row)).await
            }
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
    tx: &Transaction<'_>,
    table: &str,
    columns: &[Column<'_>],
    tail: &str,
) -> std::result::Result<u64, tokio_postgres::Error> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
    let sql =
        format!("INSERT INTO {table} ({}) VALUES ({}) {tail}", names.join(", "), places.join(", "));
    execute(tx, &sql, &values(columns)).await
}

#[doc(hidden)]
pub async fn update_row(
    tx: &Transaction<'_>,
    table: &str,
    key: &Column<'_>,
    columns: &[Column<'_>],
) -> std::result::Result<u64, tokio_postgres::Error> {
    let sets: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, (name, _))| format!("{name} = ${}", index + 2))
        .collect();
    let sql = format!("UPDATE {table} SET {} WHERE {} = $1", sets.join(", "), key.0);
    let mut params = values(std::slice::from_ref(key));
    params.extend(values(columns));
    execute(tx, &sql, &params).await
}

fn values<'a>(columns: &'a [Column<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    columns.iter().map(|(_, value)| &**value as &(dyn ToSql + Sync)).collect()
}
