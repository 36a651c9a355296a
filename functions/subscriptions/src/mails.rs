//! Lists the mails about a subscription.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::base::paging::PageQuery;
use shared::domain::mails;
use shared::domain::mails::model::MailRow;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Path, Query};
use utoipa::ToSchema;

/// A page of mails.
#[derive(Serialize, ToSchema)]
pub(crate) struct MailList {
    mails: Vec<MailRow>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// The mails about a subscription, newest first, whether they were sent or not
#[utoipa::path(get, path = "/api/v1/operator/subscriptions/{subscription_id}/mails", tag =
    "subscriptions", operation_id = "list_mails", params(PageQuery),
    responses((status = 200, description = "A page", body = MailList),
        (status = 404, description = "`subscription_not_found`")))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<SubscriptionId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<MailList>> {
    let slice = mails::operator::list(app.db(), &id, &query.page()?).await?;
    Ok(Json(MailList {
        count: slice.items.len(),
        mails: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
