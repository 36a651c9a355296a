//! What a list lets through, and its page.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::statements::{Executor, query, query_planned};
use crate::Result;
use crate::base::paging::Page;
use crate::base::sql::Value;

/// The conditions of a list: only those of the request, so that each uses its index.
#[derive(Default)]
pub struct Conditions {
    sql: Vec<String>,
    params: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Conditions {
    /// Adds a condition on no value.
    pub fn plain(&mut self, sql: &str) {
        self.sql.push(sql.to_owned());
    }

    /// Adds a condition on one value, which replaces its `?`.
    pub fn and<V: Value>(&mut self, sql: &str, value: V) {
        let sql = sql.replacen('?', &self.place(value), 1);
        self.sql.push(sql);
    }

    /// The same with two.
    pub fn and_two(&mut self, sql: &str, first: impl Value, second: impl Value) {
        let sql = sql.replacen('?', &self.place(first), 1).replacen('?', &self.place(second), 1);
        self.sql.push(sql);
    }

    /// Adds that the column has this value, if there is one.
    pub fn equal(&mut self, column: &str, value: Option<impl Value>) {
        if let Some(value) = value {
            self.and(&format!("{column} = ?"), value);
        }
    }

    fn place<V: Value>(&mut self, value: V) -> String {
        self.params.push((Box::new(value), V::TYPE));
        format!("${}", self.params.len())
    }

    /// The page of what `select` reads, in this order, and one row more. One on no value, of a
    /// usual length, has that length written out, and its plan is kept. Any other is planned
    /// for its values each time: one tenant has half of all rows, another none, and of a plan for
    /// all of them, which a prepared statement has from its sixth time on, the great one's page
    /// would cost all of its rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn page<K>(
        self,
        db: &impl Executor,
        select: &str,
        order: &str,
        page: &Page<K>,
    ) -> Result<Vec<Row>> {
        let clause = if self.sql.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.sql.join(" AND "))
        };
        let sql = format!("{select} {clause} ORDER BY {order} LIMIT {}", page.fetch());
        if self.params.is_empty() && page.is_usual() {
            return query(db, &sql, &[]).await;
        }
        let params: Vec<_> = self
            .params
            .iter()
            .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
            .collect();
        query_planned(db, &format!("{sql} OFFSET {}", page.offset), &params).await
    }
}
