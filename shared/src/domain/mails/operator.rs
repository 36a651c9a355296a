//! Mails as operators read them.

use super::model::MailRow;
use super::store;
use crate::Result;
use crate::base::ids::SubscriptionId;
use crate::base::paging::{Page, Slice};
use crate::db::Db;
use crate::domain::families;

/// A page of the mails about a subscription, the newest first. Those of an ADDON are its root's, of
/// which it is a line.
///
/// # Errors
/// `subscription_not_found`.
pub async fn list(db: &Db, id: &SubscriptionId, page: &Page<i64>) -> Result<Slice<MailRow>> {
    let db = db.connection().await?;
    let root = store::root(&db, id).await?.ok_or_else(families::not_found)?;
    let rows = store::list(&db, &root, page).await?;
    Ok(page.cut(rows, |row| row.step_id))
}
