//! What goes wrong and how a client is told: SQLSTATEs, the fields of ErrorResponse and NoticeResponse (manual, 55.8
//! "Error and Notice Message Fields"), and the errors of this room.

use crate::wire::read::Reader;
use crate::wire::write::Writer;
use bytes::BytesMut;
use std::borrow::Cow;
use std::fmt;

/// A SQLSTATE: five characters (manual, appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

macro_rules! sqlstates {
    ($($name:ident = $code:literal,)*) => {
        /// The conditions Keyway raises or looks for, by the names of appendix A.
        impl SqlState {
            $(
                #[doc = concat!("`", $code, "`")]
                pub const $name: Self = Self($code);
            )*

            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

sqlstates! {
    SUCCESSFUL_COMPLETION = "00000",
    WARNING = "01000",
    CONNECTION_FAILURE = "08006",
    TRANSACTION_RESOLUTION_UNKNOWN = "08007",
    PROTOCOL_VIOLATION = "08P01",
    FEATURE_NOT_SUPPORTED = "0A000",
    NUMERIC_VALUE_OUT_OF_RANGE = "22003",
    INVALID_ROW_COUNT_IN_LIMIT_CLAUSE = "2201W",
    INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE = "2201X",
    CHARACTER_NOT_IN_REPERTOIRE = "22021",
    INVALID_PARAMETER_VALUE = "22023",
    ACTIVE_SQL_TRANSACTION = "25001",
    NO_ACTIVE_SQL_TRANSACTION = "25P01",
    IN_FAILED_SQL_TRANSACTION = "25P02",
    INVALID_SQL_STATEMENT_NAME = "26000",
    INVALID_AUTHORIZATION_SPECIFICATION = "28000",
    INVALID_PASSWORD = "28P01",
    INVALID_CURSOR_NAME = "34000",
    INVALID_SAVEPOINT_SPECIFICATION = "3B001",
    INVALID_CATALOG_NAME = "3D000",
    SYNTAX_ERROR = "42601",
    UNDEFINED_OBJECT = "42704",
    DUPLICATE_CURSOR = "42P03",
    DUPLICATE_PSTATEMENT = "42P05",
    INDETERMINATE_DATATYPE = "42P18",
    TOO_MANY_CONNECTIONS = "53300",
    CONFIGURATION_LIMIT_EXCEEDED = "53400",
    PROGRAM_LIMIT_EXCEEDED = "54000",
    STATEMENT_TOO_COMPLEX = "54001",
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000",
    UNDEFINED_TABLE = "42P01",
    QUERY_CANCELED = "57014",
    ADMIN_SHUTDOWN = "57P01",
    CANNOT_CONNECT_NOW = "57P03",
    INTERNAL_ERROR = "XX000",
}

impl SqlState {
    /// The five characters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a client may know of an error. The message is the error's `Display`; causes are not told unless it names them.
pub trait ClientError: std::error::Error {
    /// The condition.
    fn sqlstate(&self) -> SqlState;

    /// The table, shard, key or number that it was about.
    fn detail(&self) -> Option<String> {
        None
    }

    /// What to do about it.
    fn hint(&self) -> Option<String> {
        None
    }

    /// The error as an ErrorResponse of severity ERROR.
    fn fields(&self) -> ErrorFields {
        let mut fields = ErrorFields::error(self.sqlstate(), self.to_string());
        fields.detail = self.detail();
        fields.hint = self.hint();
        fields
    }

    /// The error as an ErrorResponse of severity FATAL: the connection ends with it.
    fn fatal_fields(&self) -> ErrorFields {
        ErrorFields {
            severity: Severity::Fatal.into(),
            ..self.fields()
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// The server ends.
    Panic,
    /// Something is probably not as meant.
    Warning,
    /// Good to know.
    Notice,
    /// For developers.
    Debug,
    /// What was asked for.
    Info,
    /// For the log.
    Log,
}

impl Severity {
    const ALL: [Self; 8] = [
        Self::Error,
        Self::Fatal,
        Self::Panic,
        Self::Warning,
        Self::Notice,
        Self::Debug,
        Self::Info,
        Self::Log,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
        }
    }
}

impl From<Severity> for Cow<'static, str> {
    fn from(severity: Severity) -> Self {
        Self::Borrowed(severity.as_str())
    }
}

/// The fields of an ErrorResponse or a NoticeResponse (manual, 55.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// `V` (`S` from servers before 9.6, where it may be translated): ERROR, FATAL, WARNING …
    pub severity: Cow<'static, str>,
    /// `C`: the SQLSTATE.
    pub code: Cow<'static, str>,
    /// `M`: what happened.
    pub message: String,
    /// `D`: more about it.
    pub detail: Option<String>,
    /// `H`: what to do.
    pub hint: Option<String>,
    /// `P`: where in the query text, in characters from 1.
    pub position: Option<u32>,
    /// `p`: where in the internally made query.
    pub internal_position: Option<u32>,
    /// `q`: the internally made query.
    pub internal_query: Option<String>,
    /// `W`: the call stack.
    pub context: Option<String>,
    /// `s`: the schema.
    pub schema: Option<String>,
    /// `t`: the table.
    pub table: Option<String>,
    /// `c`: the column.
    pub column: Option<String>,
    /// `d`: the data type.
    pub data_type: Option<String>,
    /// `n`: the constraint.
    pub constraint: Option<String>,
    /// `F`: the source file that raised it.
    pub file: Option<String>,
    /// `L`: its line.
    pub line: Option<String>,
    /// `R`: its routine.
    pub routine: Option<String>,
}

impl ErrorFields {
    fn new(severity: Severity, code: SqlState, message: impl Into<String>) -> Self {
        Self {
            severity: severity.into(),
            code: Cow::Borrowed(code.code()),
            message: message.into(),
            ..Self::default()
        }
    }

    /// A statement failed.
    #[must_use]
    pub fn error(code: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// The connection ends.
    #[must_use]
    pub fn fatal(code: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, code, message)
    }

    /// A notice, `00000` as PostgreSQL has it.
    #[must_use]
    pub fn notice(message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message)
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// With a DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a place in the query text, in characters from 1.
    #[must_use]
    pub fn position(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// Whether it is this condition.
    #[must_use]
    pub fn is(&self, state: SqlState) -> bool {
        self.code == state.code()
    }

    /// Whether the sender ends the connection with it.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        self.severity == Severity::Fatal.as_str() || self.severity == Severity::Panic.as_str()
    }

    /// Reads the body of an ErrorResponse or NoticeResponse. Unknown fields are passed over (manual, 55.8); bytes that
    /// are not UTF-8 are replaced, because an error must be readable whatever the server's language.
    pub fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = Self::default();
        let mut reader = Reader::new(body);
        loop {
            let field = reader.u8()?;
            if field == 0 {
                reader.finish()?;
                return Ok(fields);
            }
            let text = String::from_utf8_lossy(reader.cstr_bytes()?);
            match field {
                b'S' if fields.severity.is_empty() => fields.severity = severity(text),
                b'V' => fields.severity = severity(text),
                b'C' => fields.code = Cow::Owned(text.into_owned()),
                b'M' => fields.message = text.into_owned(),
                b'D' => fields.detail = Some(text.into_owned()),
                b'H' => fields.hint = Some(text.into_owned()),
                b'P' => fields.position = text.parse().ok(),
                b'p' => fields.internal_position = text.parse().ok(),
                b'q' => fields.internal_query = Some(text.into_owned()),
                b'W' => fields.context = Some(text.into_owned()),
                b's' => fields.schema = Some(text.into_owned()),
                b't' => fields.table = Some(text.into_owned()),
                b'c' => fields.column = Some(text.into_owned()),
                b'd' => fields.data_type = Some(text.into_owned()),
                b'n' => fields.constraint = Some(text.into_owned()),
                b'F' => fields.file = Some(text.into_owned()),
                b'L' => fields.line = Some(text.into_owned()),
                b'R' => fields.routine = Some(text.into_owned()),
                _ => {}
            }
        }
    }

    /// Appends the message with this tag (`E` or `N`).
    pub(crate) fn write(&self, out: &mut BytesMut, tag: u8) {
        let mut message = Writer::tagged(out, tag);
        message.u8(b'S').cstr_lossy(&self.severity);
        message.u8(b'V').cstr_lossy(&self.severity);
        message.u8(b'C').cstr_lossy(&self.code);
        message.u8(b'M').cstr_lossy(&self.message);
        let position = self.position.map(|position| position.to_string());
        let internal_position = self.internal_position.map(|position| position.to_string());
        for (field, text) in [
            (b'D', &self.detail),
            (b'H', &self.hint),
            (b'P', &position),
            (b'p', &internal_position),
            (b'q', &self.internal_query),
            (b'W', &self.context),
            (b's', &self.schema),
            (b't', &self.table),
            (b'c', &self.column),
            (b'd', &self.data_type),
            (b'n', &self.constraint),
            (b'F', &self.file),
            (b'L', &self.line),
            (b'R', &self.routine),
        ] {
            if let Some(text) = text {
                message.u8(field).cstr_lossy(text);
            }
        }
        message.u8(0);
        message.finish_ours();
    }
}

impl fmt::Display for ErrorFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity, self.message, self.code)
    }
}

fn severity(text: Cow<'_, str>) -> Cow<'static, str> {
    match Severity::ALL
        .into_iter()
        .find(|known| known.as_str() == text)
    {
        Some(known) => known.into(),
        None => Cow::Owned(text.into_owned()),
    }
}

/// A message whose bytes are not what its kind promises. The texts are PostgreSQL's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A field reaches past the end.
    #[error("insufficient data left in message")]
    Truncated,
    /// A text has no end.
    #[error("invalid string in message")]
    Unterminated,
    /// Something follows where the message should end.
    #[error("invalid message format")]
    Trailing,
    /// A text is not in UTF-8.
    #[error("invalid byte sequence for encoding \"UTF8\": {byte:#04x}")]
    NotUtf8 {
        /// The first byte that is wrong.
        byte: u8,
    },
    /// A message type that the protocol does not have in this direction.
    #[error("invalid frontend message type {tag}")]
    UnknownFrontendTag {
        /// The type byte.
        tag: u8,
    },
    /// Describe or Close of something that is neither a statement nor a portal.
    #[error("invalid {message} message subtype {kind}")]
    UnknownTarget {
        /// DESCRIBE or CLOSE.
        message: &'static str,
        /// The byte that should be `S` or `P`.
        kind: u8,
    },
    /// Parameter formats that do not match the parameters.
    #[error("bind message has {formats} parameter formats but {parameters} parameters")]
    FormatCount {
        /// How many formats there are.
        formats: usize,
        /// How many parameters there are.
        parameters: usize,
    },
    /// The same in a FunctionCall.
    #[error("function call message contains {formats} argument formats but {arguments} arguments")]
    ArgumentFormatCount {
        /// How many formats there are.
        formats: usize,
        /// How many arguments there are.
        arguments: usize,
    },
    /// A format that is neither text nor binary.
    #[error("unsupported format code: {code}")]
    UnknownFormat {
        /// The format's number.
        code: i16,
    },
    /// A server sent a value that the protocol does not define.
    #[error("unexpected {what} from the server")]
    UnexpectedFromServer {
        /// What it was.
        what: &'static str,
    },
}

impl ClientError for ProtocolError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::NotUtf8 { .. } => SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            Self::UnknownFormat { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Self::Truncated
            | Self::Unterminated
            | Self::Trailing
            | Self::UnknownFrontendTag { .. }
            | Self::UnknownTarget { .. }
            | Self::FormatCount { .. }
            | Self::ArgumentFormatCount { .. }
            | Self::UnexpectedFromServer { .. } => SqlState::PROTOCOL_VIOLATION,
        }
    }
}

/// A message that the protocol cannot carry. Nothing of it is in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text holds the zero byte that would end it.
    #[error("invalid byte sequence for encoding \"UTF8\": 0x00")]
    Nul,
    /// A count or a length does not fit its field.
    #[error("message is too long for the protocol")]
    TooLong,
}

impl ClientError for EncodeError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Nul => SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            Self::TooLong => SqlState::PROGRAM_LIMIT_EXCEEDED,
        }
    }
}
