//! What happened at an instant, for the one who watches.

use std::fmt;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Client;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// What: an audit row's type, a mail's kind, a flag's.
    pub what: String,
    /// Whose: the company's name.
    pub whose: String,
    /// The rest of the line.
    pub about: String,
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<29} {:<28} {}", self.what, self.whose, self.about)
    }
}

impl Happened {
    /// What a run of the hour did that has no audit row.
    pub(super) fn of_run(summary: &Value) -> Option<Self> {
        let broken = summary["broken"].as_object().into_iter().flatten();
        let counts = ["backfilled", "unreachable"].map(|part| (part, &summary[part]));
        let told: Vec<String> = broken
            .map(|(invariant, count)| (invariant.as_str(), count))
            .chain(counts)
            .filter(|(_, count)| **count != 0)
            .map(|(what, count)| format!("{what}: {count}"))
            .collect();
        (!told.is_empty()).then(|| Self {
            what: "hourly run".to_owned(),
            whose: String::new(),
            about: told.join(", "),
        })
    }
}

/// Whether the hourly run of this instant is done.
pub(super) async fn has_run(db: &Client, at: Timestamp) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM renewal_runs WHERE started_at = $1 AND as_of = $1
               AND status = 'done' AND coalesce(summary->'breaker', 'null') = 'null')";
    Ok(db.query_one(sql, &[&at]).await?.get(0))
}

/// How far a watcher has read.
pub(super) struct Seen {
    audit: i64,
    flags: i64,
}

impl Seen {
    /// Nothing of what happens from now on.
    pub(super) async fn new(db: &Client) -> Result<Self> {
        let sql = "SELECT coalesce((SELECT max(id) FROM subscription_audit), 0),
                          coalesce((SELECT max(flag_id) FROM flags), 0)";
        let row = db.query_one(sql, &[]).await?;
        Ok(Self { audit: row.get(0), flags: row.get(1) })
    }

    /// What happened at `at` and was not read yet.
    pub(super) async fn since(&mut self, db: &Client, at: Timestamp) -> Result<Vec<Happened>> {
        let sql = "SELECT a.id, a.event_type, t.name, a.subscription_id, a.device_id,
                   a.details->>'mail' AS mail, a.details->>'to' AS recipient
                   FROM subscription_audit a LEFT JOIN tenants t USING (tenant_id)
                   WHERE a.event_timestamp >= $1 AND a.id > $2 ORDER BY a.id";
        let mut happened = Vec::new();
        for row in db.query(sql, &[&at, &self.audit]).await? {
            self.audit = row.get("id");
            let text = |name: &str| row.get::<_, Option<String>>(name).unwrap_or_default();
            let about = [text("subscription_id"), text("device_id"), text("mail")];
            happened.push(Happened {
                what: text("event_type"),
                whose: text("name"),
                about: about.join(" ").trim().to_owned(),
            });
        }
        let sql = "SELECT f.flag_id, f.kind, t.name, f.detail FROM flags f
                   LEFT JOIN tenants t USING (tenant_id) WHERE f.flag_id > $1 ORDER BY f.flag_id";
        for row in db.query(sql, &[&self.flags]).await? {
            self.flags = row.get("flag_id");
            happened.push(Happened {
                what: format!("flag {}", row.get::<_, &str>("kind")),
                whose: row.get::<_, Option<String>>("name").unwrap_or_default(),
                about: row.get("detail"),
            });
        }
        Ok(happened)
    }
}
