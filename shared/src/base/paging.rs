//! Paging: `limit` with `offset` or `cursor`, over a total order (docs/api.md, "Lists").

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use utoipa::openapi::{RefOr, Schema};

use super::fields;
use super::fields::{Described, Faults, Int, Param};
use crate::{Error, Result, request};

/// How many items a page has at most.
pub type Limit = Int<1, 500>;
/// How many items to skip.
pub type Offset = Int<0, 1_000_000_000>;

/// How many items a page has where the request names no limit.
const DEFAULT: i64 = 100;
/// More than a catalogue has.
const WHOLE: i64 = 1_000;

/// Where a page ended: opaque, made by the answer before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Json);

impl Deserr<Faults> for Cursor {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let decode = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok();
            let value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            value.map(Self).ok_or_else(|| Error::malformed("malformed_cursor", text))
        };
        fields::read_id(value, location, decode, "what `next_cursor` of the page before said")
    }
}

impl Described for Cursor {
    fn schema() -> RefOr<Schema> {
        fields::text().max_length(Some(1000)).into()
    }
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K> {
    /// How many items at most.
    pub limit: i64,
    /// How many items to skip.
    pub offset: i64,
    /// After the item of this sort key.
    pub after: Option<K>,
}

request! {
    /// Which part of a list.
    pub struct PageQuery {
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        /// The `next_cursor` of the page before.
        cursor: Option<Cursor> = None,
    }
}

impl PageQuery {
    /// The page.
    ///
    /// # Errors
    /// As `Page::new`.
    pub fn page<K: DeserializeOwned>(self) -> Result<Page<K>> {
        Page::new(self.limit, self.offset, self.cursor)
    }
}

impl<K: DeserializeOwned> Page<K> {
    /// From the three parameters.
    ///
    /// # Errors
    /// `Invalid` where the cursor is another list's, or comes together with an offset.
    pub fn new(
        limit: Option<Param<Limit>>,
        offset: Option<Param<Offset>>,
        cursor: Option<Cursor>,
    ) -> Result<Self> {
        if offset.is_some() && cursor.is_some() {
            return Err(Error::invalid("offset", "cannot be combined with cursor"));
        }
        let after = cursor
            .map(|cursor| {
                serde_json::from_value(cursor.0)
                    .map_err(|_| Error::invalid("cursor", "is not a cursor of this list"))
            })
            .transpose()?;
        Ok(Self {
            limit: limit.map_or(DEFAULT, |limit| limit.0.get()),
            offset: offset.map_or(0, |offset| offset.0.get()),
            after,
        })
    }
}

impl<K> Page<K> {
    /// The whole of a catalogue.
    #[must_use]
    pub fn whole() -> Self {
        Self { limit: WHOLE, offset: 0, after: None }
    }

    /// Whether many ask for pages of this length, which so deserve a statement of their own.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.offset == 0 && matches!(self.limit, DEFAULT | WHOLE)
    }

    /// One more than wanted: whether there is a next page is then known without a count.
    #[must_use]
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// Cuts what was fetched to the page, and makes the cursor of the next one.
    pub fn cut<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> K) -> Slice<T>
    where
        K: Serialize,
    {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let last =
            items.last().filter(|_| more).and_then(|item| serde_json::to_vec(&key(item)).ok());
        Slice { next_cursor: last.map(|key| URL_SAFE_NO_PAD.encode(key)), items }
    }
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Slice<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next one begins; none at the end.
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Cursor> {
        deserr::deserialize::<Cursor, _, Faults>(Json::String(text.to_owned())).map_err(Error::from)
    }

    #[test]
    fn a_cursor_leads_to_the_next_page_and_is_no_other_lists() {
        let page = Page::<(i64, String)>::new(
            Some(Param(Limit::new(2).expect("within bounds"))),
            None,
            None,
        )
        .expect("a page");
        assert_eq!((page.fetch(), page.offset), (3, 0));
        let slice = page.cut(vec![1, 2, 3], |n| (*n, "é".to_owned()));
        assert_eq!(slice.items, [1, 2]);
        let cursor = read(&slice.next_cursor.expect("more")).expect("a cursor");
        assert_eq!(
            Page::<(i64, String)>::new(None, None, Some(cursor.clone())).expect("a page").after,
            Some((2, "é".to_owned()))
        );
        assert_eq!(
            Page::<(String,)>::new(None, None, Some(cursor.clone()))
                .expect_err("another list's")
                .to_string(),
            "cursor is not a cursor of this list"
        );
        assert!(
            Page::<(i64, String)>::new(
                None,
                Some(Param(Offset::new(1).expect("within bounds"))),
                Some(cursor)
            )
            .is_err()
        );
        assert!(
            page.cut(vec![1, 2], |n| (*n, String::new())).next_cursor.is_none(),
            "the last page has no next"
        );
        assert!(read("%%%").is_err());
    }
}
