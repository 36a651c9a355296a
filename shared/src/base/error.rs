//! The one error type of the library: transport-free, its message fit for an operator, its class
//! exhaustive.

use std::fmt;

/// The result of anything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The code of a failure outside that has none of its own.
pub(crate) const UPSTREAM: &str = "upstream";

/// The code of such a failure while a mail was to be sent for a caller.
pub(crate) const EMAIL_FAILED: &str = "email_failed";

/// What lies outside this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `PostgreSQL`, as long as no statement has run: connecting, waiting for a connection.
    Database,
    /// The SQS queues.
    Queue,
    /// AWS Secrets Manager.
    Secrets,
    /// Stripe's API.
    Stripe,
    /// Keycloak's admin API.
    Keycloak,
    /// The issuer of access tokens, for its keys.
    Issuer,
    /// The mail server.
    Mail,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Queue => "queue",
            Self::Secrets => "secrets manager",
            Self::Stripe => "Stripe",
            Self::Keycloak => "Keycloak",
            Self::Issuer => "token issuer",
            Self::Mail => "mail server",
        })
    }
}

/// Why a request is refused. The caller or an operator must change something first. Its HTTP status
/// is fixed (docs/api.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be read, or asks for what makes no sense here: 400.
    Malformed,
    /// No token, or none of ours: 401.
    Unauthenticated,
    /// Not this caller: 403.
    Forbidden,
    /// There is no such thing, as far as this caller may know: 404.
    NotFound,
    /// More than was paid for: 402.
    PaymentRequired,
    /// It contradicts what is: 409.
    Conflict,
    /// What is there has another version than the caller changed: 412.
    Precondition,
}

/// One field of a request that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldFault {
    /// Where: `limits.users`, `[2].tier_id`, or the header's name.
    pub field: String,
    /// What is wrong, to be read by people.
    pub message: String,
}

/// Everything that can go wrong. A domain reason is a stable `code`, not a variant. No message
/// holds a secret or a mail address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A retry changes nothing until someone fixes the cause.
    #[error("{detail}")]
    Refused {
        /// The class, which decides the HTTP status.
        why: Refusal,
        /// A stable code of the reason.
        code: &'static str,
        /// The reason, to be read by people.
        detail: String,
    },
    /// More than was paid for, in numbers: 402.
    #[error("{detail}")]
    Exceeded {
        /// A stable code of the reason.
        code: &'static str,
        /// The reason, to be read by people.
        detail: String,
        /// How much is allowed.
        limit: i64,
        /// How much is in use.
        used: i64,
    },
    /// Fields of a request that cannot be taken, all of them: 422.
    #[error("{}", invalid_message(.0))]
    Invalid(Vec<FieldFault>),
    /// The same, for a reason that has a code of its own.
    #[error("{}", invalid_message(.faults))]
    Unfit {
        /// A stable code of the reason.
        code: &'static str,
        /// What cannot be taken for it.
        faults: Vec<FieldFault>,
    },
    /// The first request of this idempotency key has not ended yet: 409, and the same may be asked
    /// again.
    #[error("a request with this Idempotency-Key is still running")]
    InProgress,
    /// A service outside this process failed.
    #[error("{service}: {detail}")]
    Upstream {
        /// The service that failed.
        service: Service,
        /// A stable code of the reason; `upstream` where it has none of its own.
        code: &'static str,
        /// Whether the same call may succeed later, with nothing fixed here.
        transient: bool,
        /// The reason, to be read by people.
        detail: String,
    },
    /// `PostgreSQL` refused or lost a statement.
    #[error("database: {}", database_message(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A setting is missing, empty or malformed; the text names it.
    #[error("{0}")]
    Setting(String),
    /// A bug or a broken assumption of ours.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A service that may work later.
    pub fn unavailable(service: Service, detail: impl fmt::Display) -> Self {
        Self::Upstream { service, code: UPSTREAM, transient: true, detail: detail.to_string() }
    }

    /// A service that refused, and will refuse again.
    pub fn refused(service: Service, detail: impl fmt::Display) -> Self {
        Self::unusable(service, UPSTREAM, detail)
    }

    /// A service whose answer cannot be used: the next one would be the same.
    pub fn unusable(service: Service, code: &'static str, detail: impl fmt::Display) -> Self {
        Self::Upstream { service, code, transient: false, detail: detail.to_string() }
    }

    /// The same failure outside, told to the caller as that of a mail that was to be sent.
    #[must_use]
    pub fn of_email(self) -> Self {
        match self {
            Self::Upstream { service, transient, detail, .. } => {
                Self::Upstream { service, code: EMAIL_FAILED, transient, detail }
            }
            other => other,
        }
    }

    /// What came in cannot be read, or asks for what makes no sense here.
    pub fn malformed(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::refusal(Refusal::Malformed, code, detail)
    }

    /// A request that contradicts the present state.
    pub fn conflict(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::refusal(Refusal::Conflict, code, detail)
    }

    /// There is no such thing.
    pub fn not_found(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::refusal(Refusal::NotFound, code, detail)
    }

    /// One of the other classes.
    pub fn refusal(why: Refusal, code: &'static str, detail: impl fmt::Display) -> Self {
        Self::Refused { why, code, detail: detail.to_string() }
    }

    /// More than was paid for, in numbers.
    pub fn exceeded(code: &'static str, detail: impl fmt::Display, used: i64, limit: i64) -> Self {
        Self::Exceeded { code, detail: detail.to_string(), limit, used }
    }

    /// One field that cannot be taken.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldFault { field: field.into(), message: message.into() }])
    }

    /// Fields that cannot be taken, for one reason.
    pub fn unfit(code: &'static str, faults: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::Unfit {
            code,
            faults: faults
                .into_iter()
                .map(|(field, message)| FieldFault { field, message })
                .collect(),
        }
    }

    /// Whether this is a refusal of the class.
    #[must_use]
    pub fn is(&self, class: Refusal) -> bool {
        matches!(self, Self::Refused { why, .. } if *why == class)
    }

    /// Whether the same work may succeed later with nothing fixed by an operator. If so, a message
    /// stays on its queue and a step is tried again; otherwise it is recorded as failed
    /// (docs/events.md, "Errors").
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Upstream { transient, .. } => *transient,
            Self::Database(error) => database_is_transient(error),
            // A wrong setting is fixed by a deployment, and the message must outlive it.
            Self::Setting(_) | Self::InProgress => true,
            Self::Refused { .. }
            | Self::Exceeded { .. }
            | Self::Invalid(_)
            | Self::Unfit { .. }
            | Self::Internal(_) => false,
        }
    }

    /// The stable code where the error has one.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused { code, .. }
            | Self::Exceeded { code, .. }
            | Self::Unfit { code, .. }
            | Self::Upstream { code, .. } => code,
            Self::Invalid(_) => "invalid",
            Self::InProgress => "request_in_progress",
            Self::Database(_) => "database",
            Self::Setting(_) => "setting",
            Self::Internal(_) => "internal",
        }
    }
}

/// What is wrong with which fields, on one line.
pub(crate) fn invalid_message(faults: &[FieldFault]) -> String {
    let faults: Vec<String> =
        faults.iter().map(|fault| format!("{} {}", fault.field, fault.message)).collect();
    faults.join("; ")
}

/// An error with everything that caused it, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// By SQLSTATE class (`PostgreSQL`, appendix "Error Codes"): connection, roll-back, resources,
/// intervention and system errors pass without help. Class 42 (no such column, no right to it) is
/// a deployment half-way, which ends, and would fail every event at once. A unique violation is a
/// race with a twin: the next try finds the twin's row.
fn database_is_transient(error: &tokio_postgres::Error) -> bool {
    let Some(state) = error.code() else {
        // No SQLSTATE: the connection broke, or a value could not be converted (which is our
        // fault).
        return error.is_closed()
            || std::error::Error::source(error)
                .is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    };
    let code = state.code();
    ["08", "23505", "25006", "25P", "28", "40", "42", "53", "55", "57", "58"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// Message and constraint, never the row: `PostgreSQL` puts column values into its detail.
fn database_message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => match db.constraint() {
            Some(constraint) => {
                format!("{} (SQLSTATE {}, constraint {constraint})", db.message(), db.code().code())
            }
            None => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        },
        None => with_causes(error),
    }
}
