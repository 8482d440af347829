//! How a step of a session can end badly, and what the client is told.

use crate::backend::connect::ConnectError;
use crate::backend::pool::CheckoutError;
use crate::execute::relay::RelayError;
use crate::wire::error::{ClientError, EncodeError, ErrorFields, SqlState};

/// What ends a step.
#[derive(Debug)]
pub enum SessionError {
    /// The statement failed; the session goes on. `None`: the client has been told.
    Statement(Option<Box<ErrorFields>>),
    /// As `Statement`, for a text that Keyway does not understand: a server may word the error better.
    Unparsed(Box<ErrorFields>, String),
    /// The session ends with this.
    Fatal(Box<ErrorFields>),
    /// The client is gone.
    ClientGone,
}

impl SessionError {
    /// A refusal of Keyway's own.
    #[must_use]
    pub fn refuse(state: SqlState, message: impl Into<String>) -> Self {
        Self::Statement(Some(Box::new(ErrorFields::error(state, message))))
    }

    /// 0A000 with a DETAIL and a HINT.
    #[must_use]
    pub fn unsupported(message: &str, detail: &str, hint: &str) -> Self {
        let fields = ErrorFields::error(SqlState::FEATURE_NOT_SUPPORTED, message)
            .detail(detail)
            .hint(hint);
        Self::Statement(Some(Box::new(fields)))
    }

    /// The client asked for the statement's end.
    #[must_use]
    pub fn canceled() -> Self {
        Self::refuse(
            SqlState::QUERY_CANCELED,
            "canceling statement due to user request",
        )
    }

    /// Did the client ask for the statement's end?
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        matches!(self, Self::Statement(Some(fields)) if fields.is(SqlState::QUERY_CANCELED))
    }

    /// From an error that knows what the client may know of it.
    #[must_use]
    pub fn from_client_error(error: &dyn ClientError) -> Self {
        Self::Statement(Some(Box::new(error.fields())))
    }
}

impl From<RelayError> for SessionError {
    fn from(error: RelayError) -> Self {
        match &error {
            RelayError::ClientGone => Self::ClientGone,
            RelayError::ServerLost { told: true, .. } => Self::Statement(None),
            RelayError::OidsInside => Self::from_client_error(&error),
            RelayError::ServerLost { .. } | RelayError::OutOfStep { .. } => {
                tracing::warn!(%error, "a server connection was lost in the middle of a statement");
                Self::from_client_error(&error)
            }
        }
    }
}

impl From<EncodeError> for SessionError {
    fn from(error: EncodeError) -> Self {
        Self::from_client_error(&error)
    }
}

impl From<CheckoutError> for SessionError {
    fn from(error: CheckoutError) -> Self {
        Self::from_client_error(&error)
    }
}

impl ClientError for CheckoutError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Full { .. } => SqlState::TOO_MANY_CONNECTIONS,
            Self::Connect { source, .. } => match source.as_ref() {
                ConnectError::Rejected { code, .. } if code == "57P03" => {
                    SqlState::CANNOT_CONNECT_NOW
                }
                ConnectError::Rejected { code, .. } if code == "53300" => {
                    SqlState::TOO_MANY_CONNECTIONS
                }
                _ => SqlState::CONNECTION_FAILURE,
            },
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Full {
                size,
                busy,
                waiting,
                ..
            } => Some(format!(
                "pool.size is {size}; {busy} connections in use, {waiting} more statements waiting"
            )),
            // Neither where the server is, nor what it said: that is for the log.
            Self::Connect { source, .. } => Some(match source.as_ref() {
                ConnectError::Unreachable { source, .. } => {
                    format!("The connection failed: {}.", source.kind())
                }
                ConnectError::TimedOut { waited, .. } => {
                    format!("The server did not answer within {waited:?}.")
                }
                ConnectError::Tls { .. } => "TLS could not be agreed on.".to_owned(),
                ConnectError::Rejected { code, .. } => {
                    format!("The server refused the login with {code}.")
                }
                ConnectError::Protocol { .. } | ConnectError::NotNeeded => {
                    "The login failed.".to_owned()
                }
            }),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Full { .. } => {
                "Raise pool.size or pool.checkout_timeout, or look for transactions that stay open."
                    .to_owned()
            }
            Self::Connect { shard, .. } => {
                format!(
                    "Statements that do not need shard {shard} still work. Run `keyway check` for more."
                )
            }
        })
    }
}
