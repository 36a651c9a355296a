//! Whose is this? Finds what an operator has in hand: an id, a mail address, a company's name
//! (docs/operations.md, "Search").

pub mod model;
mod store;

use std::collections::BTreeSet;

use self::model::{Hit, SearchRequest};
use crate::Result;
use crate::db::Db;

/// What is called so, what is that by its id first.
///
/// # Errors
/// `Database`.
pub async fn find(db: &Db, request: &SearchRequest) -> Result<Vec<Hit>> {
    let typed = request.q.as_str().trim();
    let limit = request.limit.map_or(10, |limit| limit.0.get());
    let mut hits = store::find(&db.connection().await?, typed, limit).await?;
    // One that is found in two ways is told of by the first.
    let mut seen = BTreeSet::new();
    hits.retain(|hit| seen.insert((hit.kind, hit.tenant_id.clone(), hit.id.clone())));
    Ok(hits)
}
