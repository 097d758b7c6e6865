//! What a failed statement means for its caller.

use super::schema::OtherVersion;
use crate::identity::{ContactId, Position};
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use std::error::Error;

/// The SQLSTATE of a time that is out of range (datetime_field_overflow).
const OUT_OF_RANGE: &str = "22008";
/// The SQLSTATE of a statement that was cancelled (query_canceled).
const CANCELLED: &str = "57014";
/// The SQLSTATE of a statement that wanted more room than there is (disk_full).
const DISK_FULL: &str = "53100";
const DATA_CORRUPTED: &str = "XX001";
const INDEX_CORRUPTED: &str = "XX002";
/// The SQLSTATE of a statement that its role has no right to (insufficient_privilege).
const NOT_ALLOWED: &str = "42501";
/// The SQLSTATE of a statement that would write where nothing may be written (read_only_sql_transaction).
const READ_ONLY: &str = "25006";

const ENDED: &str = "Postgres ended the session";

pub(super) const TAKES_NO_WRITES: &str = "Postgres takes no writes here: it is a replica or still restores an \
    archive (use the server that it follows, or wait), or default_transaction_read_only is on for this \
    database, this role or the server (turn it off)";

/// A database error, by what is known of the statement's effect. Its text is safe to log.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The statement was refused for the data it carried (SQLSTATE classes 22 and 23).
    #[error("Postgres refused the data (SQLSTATE {0})")]
    Data(String),
    /// The statement has had no effect, and the same one may succeed later.
    #[error("{}", refused(.0))]
    Refused(String),
    /// The connection is gone. What was sent may have had its effect, or may yet have it.
    #[error("the connection to Postgres was lost ({0})")]
    Lost(&'static str),
    /// The statement has had no effect, and will have none until the node is upgraded.
    #[error("{0}")]
    OtherVersion(OtherVersion),
    #[error("{0}")]
    Damaged(Damaged),
    /// Events are missing that were recorded. The statement has had no effect.
    #[error(
        "the database has gone back in time: it ends at event {left}, and this node has recorded event \
         {recorded_to}; stop every service on it, and see identity-ledger restore --accept-loss"
    )]
    WentBack { left: Position, recorded_to: Position },
    /// A row is missing that is always there, or holds what it never should. The statement has had
    /// no effect.
    #[error("what is recorded was tampered with: run identity-ledger verify")]
    Corrupt,
}

/// The contact table holds what no events fold into.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the contact table is damaged: contact {0} is linked to a contact that is not a primary; \
     identity-ledger rebuild makes the table anew"
)]
pub struct Damaged(pub ContactId);

fn refused(code: &str) -> String {
    match code {
        READ_ONLY => TAKES_NO_WRITES.to_owned(),
        code => format!("Postgres refused the statement (SQLSTATE {code})"),
    }
}

impl Fault {
    /// The fault of a time that Postgres can tell and chrono cannot.
    pub fn out_of_range() -> Self {
        Self::Data(OUT_OF_RANGE.to_owned())
    }

    /// Whether a key was there already that may be there once only (unique_violation).
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Data(code) if code == "23505")
    }

    /// Whether the statement was ended while it ran, for example because it took longer than its session
    /// allows.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Refused(code) if code == CANCELLED)
    }

    /// Whether Postgres has no room left to write.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Refused(code) if code == DISK_FULL)
    }

    /// Whether Postgres refuses the same statement each time: a right or a table is missing, or a page
    /// cannot be read.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Refused(code) if ["42", "XX"].iter().any(|class| code.starts_with(class)))
    }

    /// Whether a right is missing.
    pub fn is_not_allowed(&self) -> bool {
        matches!(self, Self::Refused(code) if code == NOT_ALLOWED)
    }

    /// Whether the fault may be of one request, so that others in the same batch may succeed without it: of
    /// its values, or of a page that it needs and that cannot be read.
    pub fn is_of_one(&self) -> bool {
        match self {
            Self::Data(_) | Self::Damaged(_) => true,
            Self::Refused(code) => [DATA_CORRUPTED, INDEX_CORRUPTED].contains(&&**code),
            _ => false,
        }
    }
}

/// Why a question about the ledger has no answer. Its text is safe to log.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("{0}")]
    Fault(#[from] Fault),
    /// What is recorded is not what this binary would have written.
    #[error("what is recorded cannot be read: {0}")]
    Unreadable(String),
    /// By the rules in force, this binary would make other keys.
    #[error("the rules in force make other keys than this binary")]
    OtherRules,
}

impl From<sqlx::Error> for Unanswered {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// Whether a statement waited for a lock for longer than the session's lock timeout.
pub fn is_lock_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// The text of a cause that is a failed statement, safe to log. `None` for any other cause.
pub fn failed_statement(cause: &(dyn Error + 'static)) -> Option<String> {
    let error = match cause.downcast_ref() {
        Some(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => error,
        _ => cause.downcast_ref()?,
    };
    Some(match error {
        sqlx::Error::Database(error) if is_of_the_server(&error.code().unwrap_or_default()) => {
            error.message().to_owned()
        }
        error => Fault::from(error).to_string(),
    })
}

/// Whether a SQLSTATE is about the server, a login or a right. Messages of that kind help, and
/// quote names only, no values.
fn is_of_the_server(code: &str) -> bool {
    code == NOT_ALLOWED || matches!(code.get(..2), Some("08" | "28" | "3D" | "53" | "57"))
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&sqlx::Error> for Fault {
    /// Keeps the SQLSTATE alone, since messages and details of Postgres can quote values.
    fn from(error: &sqlx::Error) -> Self {
        let sqlx::Error::Database(error) = error else {
            if let Some(other) = other_version(error) {
                return Self::OtherVersion(other);
            }
            if let Some(damaged) = damaged(error) {
                return Self::Damaged(damaged);
            }
            return match error {
                sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } => Self::Corrupt,
                sqlx::Error::Io(_) => Self::Lost("input/output"),
                sqlx::Error::Tls(_) => Self::Lost("TLS"),
                sqlx::Error::PoolTimedOut => {
                    Self::Lost("no session in time: it is away, or all are busy")
                }
                _ => Self::Lost("protocol"),
            };
        };
        let code = error.code().unwrap_or_default().into_owned();
        match code.get(..2) {
            Some("22" | "23") => Self::Data(code),
            // The server shuts down, has crashed, or has ended this session. It may have committed before it
            // said so.
            Some("57") if code.starts_with("57P") => Self::Lost(ENDED),
            // The session has ended with the transaction.
            Some("25") if code == "25P03" => Self::Lost("idle in a transaction for too long"),
            Some("08") => Self::Lost("connection exception"),
            // An internal error that ends the session, or keeps it from beginning, as on a full disk. The next
            // one may be better.
            Some("XX") if is_fatal(&**error) => Self::Lost(ENDED),
            _ => Self::Refused(code),
        }
    }
}

fn is_fatal(error: &dyn DatabaseError) -> bool {
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

fn damaged(error: &sqlx::Error) -> Option<Damaged> {
    let sqlx::Error::Decode(source) = error else { return None };
    source.downcast_ref().copied()
}

fn other_version(error: &sqlx::Error) -> Option<OtherVersion> {
    let sqlx::Error::ColumnDecode { source, .. } = error else { return None };
    source.downcast_ref().copied()
}
