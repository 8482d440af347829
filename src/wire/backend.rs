//! What a server sends (manual, 55.7 "Message Formats", those marked B): decoders for what our servers say, and
//! functions that append what we say to clients.

use crate::wire::error::{ErrorFields, ProtocolError};
use crate::wire::frontend::Format;
use crate::wire::read::Reader;
use crate::wire::types::Oid;
use crate::wire::write::Writer;
use bytes::{Bytes, BytesMut};

/// The type byte of each message a server sends.
pub mod tag {
    /// Authentication…
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse
    pub const COPY_IN_RESPONSE: u8 = b'G';
    /// CopyOutResponse
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    /// CopyBothResponse
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    /// DataRow
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    /// ErrorResponse
    pub const ERROR_RESPONSE: u8 = b'E';
    /// FunctionCallResponse
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    /// NegotiateProtocolVersion
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoData
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// NotificationResponse
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    /// ParameterDescription
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// RowDescription
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// Where a session stands when it is ready for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`: not in a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a transaction block that failed.
    Failed,
}

impl TransactionStatus {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }

    /// Reads the body of a ReadyForQuery.
    pub fn decode(body: &[u8]) -> Result<Self, ProtocolError> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::InTransaction),
            b"E" => Ok(Self::Failed),
            _ => Err(ProtocolError::UnexpectedFromServer {
                what: "transaction status",
            }),
        }
    }
}

/// One column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// The table it comes from, or 0.
    pub table: Oid,
    /// The attribute's number in that table, or 0.
    pub attribute: i16,
    /// The type.
    pub type_oid: Oid,
    /// The type's length; negative is variable.
    pub type_len: i16,
    /// The type's modifier, or -1.
    pub type_modifier: i32,
    /// How the values are written. A Describe of a statement always says text, for it does not know yet.
    pub format: Format,
}

/// The bytes of a [`Field`] with an empty name.
const FIELD_MIN: usize = 19;

/// Reads the body of a RowDescription.
pub fn read_row_description(body: &[u8]) -> Result<Vec<Field>, ProtocolError> {
    let mut reader = Reader::new(body);
    let count = reader.count(FIELD_MIN)?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        fields.push(Field {
            name: reader.cstr()?.to_owned(),
            table: reader.u32()?,
            attribute: reader.i16()?,
            type_oid: reader.u32()?,
            type_len: reader.i16()?,
            type_modifier: reader.i32()?,
            format: Format::from_code(reader.i16()?)?,
        });
    }
    reader.finish()?;
    Ok(fields)
}

/// Appends a RowDescription.
pub fn row_description<'f>(out: &mut BytesMut, fields: impl ExactSizeIterator<Item = &'f Field>) {
    let mut message = Writer::tagged(out, tag::ROW_DESCRIPTION);
    message.count(fields.len());
    for field in fields {
        message.cstr_lossy(&field.name);
        message
            .u32(field.table)
            .i16(field.attribute)
            .u32(field.type_oid);
        message
            .i16(field.type_len)
            .i32(field.type_modifier)
            .i16(field.format.code());
    }
    message.finish_ours();
}

/// Reads the body of a ParameterDescription.
pub fn read_parameter_description(body: &[u8]) -> Result<Vec<Oid>, ProtocolError> {
    let mut reader = Reader::new(body);
    let count = reader.count(4)?;
    let mut types = Vec::with_capacity(count);
    for _ in 0..count {
        types.push(reader.u32()?);
    }
    reader.finish()?;
    Ok(types)
}

/// Appends a ParameterDescription.
pub fn parameter_description(out: &mut BytesMut, types: &[Oid]) {
    let mut message = Writer::tagged(out, tag::PARAMETER_DESCRIPTION);
    message.count(types.len());
    for &oid in types {
        message.u32(oid);
    }
    message.finish_ours();
}

/// The columns of a DataRow's body, in order; `None` is NULL. After an error there is nothing more.
#[must_use]
pub fn columns(body: &[u8]) -> Columns<'_> {
    let mut reader = Reader::new(body);
    let (left, error) = match reader.count(4) {
        Ok(0) if reader.remaining() > 0 => (0, Some(ProtocolError::Trailing)),
        Ok(count) => (count, None),
        Err(error) => (0, Some(error)),
    };
    Columns {
        reader,
        left,
        error,
    }
}

/// See [`columns`].
#[derive(Clone, Debug)]
pub struct Columns<'a> {
    reader: Reader<'a>,
    left: usize,
    error: Option<ProtocolError>,
}

impl Columns<'_> {
    /// How many columns are still to come, by the row's own count.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Columns<'a> {
    type Item = Result<Option<&'a [u8]>, ProtocolError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        self.left = self.left.checked_sub(1)?;
        let column = self.reader.value();
        let column = match column {
            // The last column must end with the row.
            Ok(_) if self.left == 0 && self.reader.remaining() > 0 => Err(ProtocolError::Trailing),
            column => column,
        };
        if column.is_err() {
            self.left = 0;
        }
        Some(column)
    }
}

/// Appends a DataRow.
pub fn data_row<'c>(out: &mut BytesMut, columns: impl ExactSizeIterator<Item = Option<&'c [u8]>>) {
    let mut message = Writer::tagged(out, tag::DATA_ROW);
    message.count(columns.len());
    for column in columns {
        message.value(column);
    }
    message.finish_ours();
}

/// Reads the tag of a CommandComplete: `SELECT 3`, `INSERT 0 1`, `BEGIN` …
pub fn read_command_complete(body: &[u8]) -> Result<&str, ProtocolError> {
    crate::wire::frontend::text(body)
}

/// The number of rows at the end of a command tag, where there is one.
#[must_use]
pub fn rows_of(command_tag: &str) -> Option<u64> {
    let (_, rows) = command_tag.rsplit_once(' ')?;
    rows.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| rows.parse().ok())
        .flatten()
}

/// Appends a CommandComplete.
pub fn command_complete(out: &mut BytesMut, command_tag: &str) {
    let mut message = Writer::tagged(out, tag::COMMAND_COMPLETE);
    message.cstr_lossy(command_tag);
    message.finish_ours();
}

/// Appends a ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    out.extend_from_slice(&[tag::READY_FOR_QUERY, 0, 0, 0, 5, status.code()]);
}

/// Reads the name and the value of a ParameterStatus.
pub fn read_parameter_status(body: &[u8]) -> Result<(&str, &str), ProtocolError> {
    let mut reader = Reader::new(body);
    let name = reader.cstr()?;
    let value = reader.cstr()?;
    reader.finish()?;
    Ok((name, value))
}

/// Appends a ParameterStatus.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    let mut message = Writer::tagged(out, tag::PARAMETER_STATUS);
    message.cstr_lossy(name).cstr_lossy(value);
    message.finish_ours();
}

/// Reads the body of an ErrorResponse.
pub fn read_error(body: &[u8]) -> Result<ErrorFields, ProtocolError> {
    ErrorFields::parse(body)
}

/// Reads the body of a NoticeResponse.
pub fn read_notice(body: &[u8]) -> Result<ErrorFields, ProtocolError> {
    ErrorFields::parse(body)
}

/// Appends an ErrorResponse.
pub fn error_response(out: &mut BytesMut, fields: &ErrorFields) {
    fields.write(out, tag::ERROR_RESPONSE);
}

/// Appends a NoticeResponse.
pub fn notice_response(out: &mut BytesMut, fields: &ErrorFields) {
    fields.write(out, tag::NOTICE_RESPONSE);
}

/// Appends an EmptyQueryResponse.
pub fn empty_query_response(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::EMPTY_QUERY_RESPONSE, 0, 0, 0, 4]);
}

/// Appends a NoData.
pub fn no_data(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::NO_DATA, 0, 0, 0, 4]);
}

/// Appends a ParseComplete.
pub fn parse_complete(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::PARSE_COMPLETE, 0, 0, 0, 4]);
}

/// Appends a BindComplete.
pub fn bind_complete(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::BIND_COMPLETE, 0, 0, 0, 4]);
}

/// Appends a CloseComplete.
pub fn close_complete(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::CLOSE_COMPLETE, 0, 0, 0, 4]);
}

/// Appends a PortalSuspended.
pub fn portal_suspended(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::PORTAL_SUSPENDED, 0, 0, 0, 4]);
}

/// Appends a CopyData.
pub fn copy_data(out: &mut BytesMut, data: &[u8]) {
    let mut message = Writer::tagged(out, tag::COPY_DATA);
    message.bytes(data);
    message.finish_ours();
}

/// Appends a CopyDone.
pub fn copy_done(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::COPY_DONE, 0, 0, 0, 4]);
}

/// CopyInResponse, CopyOutResponse, CopyBothResponse: the formats of what is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyResponse {
    /// The format of the whole: text (also CSV) or binary.
    pub format: Format,
    /// The format of each column.
    pub columns: Vec<Format>,
}

impl CopyResponse {
    /// Reads the body of any of the three.
    pub fn decode(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let format = Format::from_code(i16::from(reader.u8()?))?;
        let count = reader.count(2)?;
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            columns.push(Format::from_code(reader.i16()?)?);
        }
        reader.finish()?;
        Ok(Self { format, columns })
    }

    fn write(&self, out: &mut BytesMut, tag: u8) {
        let mut message = Writer::tagged(out, tag);
        message.u8(match self.format {
            Format::Text => 0,
            Format::Binary => 1,
        });
        message.count(self.columns.len());
        for column in &self.columns {
            message.i16(column.code());
        }
        message.finish_ours();
    }
}

/// Appends a CopyInResponse.
pub fn copy_in_response(out: &mut BytesMut, copy: &CopyResponse) {
    copy.write(out, tag::COPY_IN_RESPONSE);
}

/// Appends a CopyOutResponse.
pub fn copy_out_response(out: &mut BytesMut, copy: &CopyResponse) {
    copy.write(out, tag::COPY_OUT_RESPONSE);
}

/// Appends a CopyBothResponse.
pub fn copy_both_response(out: &mut BytesMut, copy: &CopyResponse) {
    copy.write(out, tag::COPY_BOTH_RESPONSE);
}

/// What a server asks of a client that wants in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// 0: come in.
    Ok,
    /// 2: Kerberos, which no server since 9.3 asks for.
    KerberosV5,
    /// 3: the password in clear.
    CleartextPassword,
    /// 5: the password through md5 with this salt.
    Md5Password {
        /// Four random bytes.
        salt: [u8; 4],
    },
    /// 7
    Gss,
    /// 8
    GssContinue(&'a [u8]),
    /// 9
    Sspi,
    /// 10: one of these mechanisms.
    Sasl(SaslMechanisms<'a>),
    /// 11: the server's challenge.
    SaslContinue(&'a [u8]),
    /// 12: the server's own proof.
    SaslFinal(&'a [u8]),
}

/// The mechanisms of an AuthenticationSASL, by the server's preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslMechanisms<'a> {
    list: &'a [u8],
}

impl<'a> SaslMechanisms<'a> {
    /// The mechanisms' names.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.list
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
    }

    /// Whether the server offers this one.
    #[must_use]
    pub fn offers(self, mechanism: &str) -> bool {
        self.iter().any(|name| name == mechanism.as_bytes())
    }
}

impl<'a> Authentication<'a> {
    /// Reads the body of any message of type `R`.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let request = match reader.i32()? {
            0 => Self::Ok,
            2 => Self::KerberosV5,
            3 => Self::CleartextPassword,
            5 => {
                let salt = reader.u32()?.to_be_bytes();
                Self::Md5Password { salt }
            }
            7 => Self::Gss,
            8 => Self::GssContinue(reader.rest()),
            9 => Self::Sspi,
            10 => {
                // A list of texts that ends with an empty one.
                let list = reader.rest();
                match list {
                    [0] | [.., 0, 0] => Self::Sasl(SaslMechanisms { list }),
                    _ => return Err(ProtocolError::Unterminated),
                }
            }
            11 => Self::SaslContinue(reader.rest()),
            12 => Self::SaslFinal(reader.rest()),
            _ => {
                return Err(ProtocolError::UnexpectedFromServer {
                    what: "authentication request",
                });
            }
        };
        reader.finish()?;
        Ok(request)
    }
}

/// Appends an AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    authentication(out, 0, &[]);
}

/// Appends an AuthenticationCleartextPassword.
pub fn authentication_cleartext_password(out: &mut BytesMut) {
    authentication(out, 3, &[]);
}

/// Appends an AuthenticationMD5Password.
pub fn authentication_md5_password(out: &mut BytesMut, salt: [u8; 4]) {
    authentication(out, 5, &salt);
}

/// Appends an AuthenticationSASL with these mechanisms.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    let mut message = Writer::tagged(out, tag::AUTHENTICATION);
    message.i32(10);
    for mechanism in mechanisms {
        message.cstr_lossy(mechanism);
    }
    message.u8(0);
    message.finish_ours();
}

/// Appends an AuthenticationSASLContinue.
pub fn authentication_sasl_continue(out: &mut BytesMut, challenge: &[u8]) {
    authentication(out, 11, challenge);
}

/// Appends an AuthenticationSASLFinal.
pub fn authentication_sasl_final(out: &mut BytesMut, outcome: &[u8]) {
    authentication(out, 12, outcome);
}

fn authentication(out: &mut BytesMut, request: i32, data: &[u8]) {
    let mut message = Writer::tagged(out, tag::AUTHENTICATION);
    message.i32(request).bytes(data);
    message.finish_ours();
}

/// What a client needs to cancel a query (manual, 55.2.9). The key is a secret: it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKeyData {
    /// The process.
    pub pid: u32,
    /// Its secret: 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub key: Bytes,
}

/// The longest key that protocol 3.2 allows.
pub const KEY_MAX: usize = 256;

impl BackendKeyData {
    /// Reads the body of a BackendKeyData.
    pub fn decode(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let pid = reader.u32()?;
        let key = reader.rest();
        if !(4..=KEY_MAX).contains(&key.len()) {
            return Err(ProtocolError::UnexpectedFromServer {
                what: "length of a cancel key",
            });
        }
        Ok(Self {
            pid,
            key: Bytes::copy_from_slice(key),
        })
    }
}

impl std::fmt::Debug for BackendKeyData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendKeyData")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Appends a BackendKeyData. A client of protocol 3.0 must be given a key of exactly 4 bytes.
pub fn backend_key_data(out: &mut BytesMut, pid: u32, key: &[u8]) {
    let mut message = Writer::tagged(out, tag::BACKEND_KEY_DATA);
    message.u32(pid).bytes(key);
    message.finish_ours();
}

/// A NotificationResponse: somebody called NOTIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The process that did.
    pub pid: u32,
    /// The channel.
    pub channel: &'a str,
    /// What it said.
    pub payload: &'a str,
}

impl<'a> Notification<'a> {
    /// Reads the body of a NotificationResponse.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let pid = reader.u32()?;
        let channel = reader.cstr()?;
        let payload = reader.cstr()?;
        reader.finish()?;
        Ok(Self {
            pid,
            channel,
            payload,
        })
    }
}

/// Appends a NotificationResponse.
pub fn notification_response(out: &mut BytesMut, notification: &Notification<'_>) {
    let mut message = Writer::tagged(out, tag::NOTIFICATION_RESPONSE);
    message
        .u32(notification.pid)
        .cstr_lossy(notification.channel)
        .cstr_lossy(notification.payload);
    message.finish_ours();
}

/// A NegotiateProtocolVersion: what the server does not do of what the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion {
    /// The newest minor version of protocol 3 that the server speaks (PostgreSQL sends the whole version: 3 << 16 | minor).
    pub version: u32,
    /// The `_pq_.` options it does not know.
    pub options: Vec<String>,
}

impl NegotiateProtocolVersion {
    /// Reads the body of a NegotiateProtocolVersion.
    pub fn decode(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let version = reader.u32()?;
        let count = usize::try_from(reader.i32()?).map_err(|_| ProtocolError::Truncated)?;
        if count > reader.remaining() {
            return Err(ProtocolError::Truncated);
        }
        let mut options = Vec::new();
        for _ in 0..count {
            options.push(reader.cstr()?.to_owned());
        }
        reader.finish()?;
        Ok(Self { version, options })
    }
}

/// Appends a FunctionCallResponse; `None` is NULL.
pub fn function_call_response(out: &mut BytesMut, value: Option<&[u8]>) {
    let mut message = Writer::tagged(out, tag::FUNCTION_CALL_RESPONSE);
    message.value(value);
    message.finish_ours();
}
