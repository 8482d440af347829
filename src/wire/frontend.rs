//! What a client sends (manual, 55.7 "Message Formats", those marked F): decoders that borrow from the body, for the
//! clients we serve, and encoders, for the servers we talk to.

use crate::wire::error::{EncodeError, ProtocolError};
use crate::wire::frame::HEADER;
use crate::wire::read::Reader;
use crate::wire::startup;
use crate::wire::types::Oid;
use crate::wire::write::Writer;
use bytes::BytesMut;
use smallvec::SmallVec;

/// The type byte of each message a client sends.
pub mod tag {
    /// Bind
    pub const BIND: u8 = b'B';
    /// Close
    pub const CLOSE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail
    pub const COPY_FAIL: u8 = b'f';
    /// Describe
    pub const DESCRIBE: u8 = b'D';
    /// Execute
    pub const EXECUTE: u8 = b'E';
    /// Flush
    pub const FLUSH: u8 = b'H';
    /// FunctionCall
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse
    pub const PASSWORD: u8 = b'p';
    /// Query
    pub const QUERY: u8 = b'Q';
    /// Sync
    pub const SYNC: u8 = b'S';
    /// Terminate
    pub const TERMINATE: u8 = b'X';
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// As text, in the session's settings.
    #[default]
    Text,
    /// As the type's own bytes.
    Binary,
}

impl Format {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    /// The format with this number.
    pub fn from_code(code: i16) -> Result<Self, ProtocolError> {
        match code {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            code => Err(ProtocolError::UnknownFormat { code }),
        }
    }
}

/// The formats of a row of values as Bind gives them: none (all text), one for all, or one each (manual, 55.7 Bind).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats<'a> {
    codes: &'a [[u8; 2]],
}

impl<'a> Formats<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ProtocolError> {
        let count = reader.count(2)?;
        let (codes, _) = reader.bytes(count * 2)?.as_chunks::<2>();
        for &code in codes {
            Format::from_code(i16::from_be_bytes(code))?;
        }
        Ok(Self { codes })
    }

    /// How many formats were given.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether none was given, so that all is text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The format of the value at `index` (from 0).
    #[must_use]
    pub fn get(&self, index: usize) -> Format {
        let code = match self.codes {
            [] => None,
            [all] => Some(all),
            each => each.get(index),
        };
        match code {
            Some([0, 1]) => Format::Binary,
            _ => Format::Text,
        }
    }

    /// The formats as given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Format> + use<'a> {
        self.codes.iter().map(|code| {
            if *code == [0, 1] {
                Format::Binary
            } else {
                Format::Text
            }
        })
    }
}

/// Parse: a text becomes a prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty is the unnamed statement.
    pub name: &'a str,
    /// The text.
    pub query: &'a str,
    /// The parameters' types as far as the client says; 0 leaves it to the server.
    pub types: SmallVec<[Oid; 8]>,
}

impl<'a> Parse<'a> {
    /// Reads the body of a Parse.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let name = reader.cstr()?;
        let query = reader.cstr()?;
        let count = reader.count(4)?;
        let mut types = SmallVec::with_capacity(count);
        for _ in 0..count {
            types.push(reader.u32()?);
        }
        reader.finish()?;
        Ok(Self { name, query, types })
    }
}

/// Bind: a prepared statement and parameters become a portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty is the unnamed portal.
    pub portal: &'a str,
    /// The statement's name; empty is the unnamed statement.
    pub statement: &'a str,
    /// The formats of the parameters.
    pub parameter_formats: Formats<'a>,
    /// The parameters; `None` is NULL.
    pub parameters: SmallVec<[Option<&'a [u8]>; 8]>,
    /// The formats the results are wanted in.
    pub result_formats: Formats<'a>,
}

impl<'a> Bind<'a> {
    /// Reads the body of a Bind.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let portal = reader.cstr()?;
        let statement = reader.cstr()?;
        let parameter_formats = Formats::read(&mut reader)?;
        let count = reader.count(4)?;
        if parameter_formats.len() > 1 && parameter_formats.len() != count {
            return Err(ProtocolError::FormatCount {
                formats: parameter_formats.len(),
                parameters: count,
            });
        }
        let parameters = values(&mut reader, count)?;
        let result_formats = Formats::read(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            portal,
            statement,
            parameter_formats,
            parameters,
            result_formats,
        })
    }
}

fn values<'a>(
    reader: &mut Reader<'a>,
    count: usize,
) -> Result<SmallVec<[Option<&'a [u8]>; 8]>, ProtocolError> {
    let mut values = SmallVec::with_capacity(count);
    for _ in 0..count {
        values.push(reader.value()?);
    }
    Ok(values)
}

/// What Describe and Close are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Target {
    const fn code(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }

    fn read<'a>(body: &'a [u8], message: &'static str) -> Result<(Self, &'a str), ProtocolError> {
        let mut reader = Reader::new(body);
        let target = match reader.u8()? {
            b'S' => Self::Statement,
            b'P' => Self::Portal,
            kind => return Err(ProtocolError::UnknownTarget { message, kind }),
        };
        let name = reader.cstr()?;
        reader.finish()?;
        Ok((target, name))
    }
}

/// Describe: what a statement takes and returns, or what a portal returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    /// Statement or portal.
    pub kind: Target,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Describe<'a> {
    /// Reads the body of a Describe.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let (kind, name) = Target::read(body, "DESCRIBE")?;
        Ok(Self { kind, name })
    }
}

/// Close: a statement or a portal is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Statement or portal.
    pub kind: Target,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Close<'a> {
    /// Reads the body of a Close.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let (kind, name) = Target::read(body, "CLOSE")?;
        Ok(Self { kind, name })
    }
}

/// Execute: run a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name.
    pub portal: &'a str,
    /// At most so many rows; 0 is all. PostgreSQL takes a negative number for 0, so that is what it reads as.
    pub max_rows: u32,
}

impl<'a> Execute<'a> {
    /// Reads the body of an Execute.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let portal = reader.cstr()?;
        let max_rows = u32::try_from(reader.i32()?).unwrap_or(0);
        reader.finish()?;
        Ok(Self { portal, max_rows })
    }
}

/// FunctionCall: the fast path of old, still spoken by libpq's large objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    /// The function's OID.
    pub function: Oid,
    /// The formats of the arguments.
    pub argument_formats: Formats<'a>,
    /// The arguments; `None` is NULL.
    pub arguments: SmallVec<[Option<&'a [u8]>; 8]>,
    /// The format the result is wanted in.
    pub result_format: Format,
}

impl<'a> FunctionCall<'a> {
    /// Reads the body of a FunctionCall.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let function = reader.u32()?;
        let argument_formats = Formats::read(&mut reader)?;
        let count = reader.count(4)?;
        if argument_formats.len() > 1 && argument_formats.len() != count {
            return Err(ProtocolError::ArgumentFormatCount {
                formats: argument_formats.len(),
                arguments: count,
            });
        }
        let arguments = values(&mut reader, count)?;
        let result_format = Format::from_code(reader.i16()?)?;
        reader.finish()?;
        Ok(Self {
            function,
            argument_formats,
            arguments,
            result_format,
        })
    }
}

/// Any message a client sends after its startup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Parse
    Parse(Parse<'a>),
    /// Bind
    Bind(Bind<'a>),
    /// Describe
    Describe(Describe<'a>),
    /// Execute
    Execute(Execute<'a>),
    /// Close
    Close(Close<'a>),
    /// Query: a text of any number of statements, by the simple protocol.
    Query(&'a str),
    /// Sync
    Sync,
    /// Flush
    Flush,
    /// CopyData
    CopyData(&'a [u8]),
    /// CopyDone
    CopyDone,
    /// CopyFail, with the client's reason.
    CopyFail(&'a str),
    /// FunctionCall
    FunctionCall(FunctionCall<'a>),
    /// PasswordMessage, SASLInitialResponse or SASLResponse: which, only the conversation tells.
    Password(&'a [u8]),
    /// Terminate
    Terminate,
}

impl<'a> Message<'a> {
    /// Reads a message of this kind. An unknown kind means that the stream is no longer in step.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, ProtocolError> {
        Ok(match kind {
            tag::PARSE => Self::Parse(Parse::decode(body)?),
            tag::BIND => Self::Bind(Bind::decode(body)?),
            tag::DESCRIBE => Self::Describe(Describe::decode(body)?),
            tag::EXECUTE => Self::Execute(Execute::decode(body)?),
            tag::CLOSE => Self::Close(Close::decode(body)?),
            tag::QUERY => Self::Query(text(body)?),
            tag::SYNC => empty(body, Self::Sync)?,
            tag::FLUSH => empty(body, Self::Flush)?,
            tag::COPY_DATA => Self::CopyData(body),
            tag::COPY_DONE => empty(body, Self::CopyDone)?,
            tag::COPY_FAIL => Self::CopyFail(text(body)?),
            tag::FUNCTION_CALL => Self::FunctionCall(FunctionCall::decode(body)?),
            tag::PASSWORD => Self::Password(body),
            tag::TERMINATE => empty(body, Self::Terminate)?,
            tag => return Err(ProtocolError::UnknownFrontendTag { tag }),
        })
    }
}

/// A body that is one text: Query, CopyFail, PasswordMessage.
pub fn text(body: &[u8]) -> Result<&str, ProtocolError> {
    let mut reader = Reader::new(body);
    let text = reader.cstr()?;
    reader.finish()?;
    Ok(text)
}

fn empty<'a>(body: &[u8], message: Message<'a>) -> Result<Message<'a>, ProtocolError> {
    Reader::new(body).finish()?;
    Ok(message)
}

/// SASLInitialResponse (manual, 55.3.1 "SCRAM-SHA-256 Authentication").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism the client chose.
    pub mechanism: &'a str,
    /// The mechanism's first message, if the client sends one.
    pub response: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads the body of a message of type `p` that answers AuthenticationSASL.
    pub fn decode(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let mechanism = reader.cstr()?;
        let response = reader.value()?;
        reader.finish()?;
        Ok(Self {
            mechanism,
            response,
        })
    }
}

/// Appends a Parse.
pub fn parse(
    out: &mut BytesMut,
    name: &str,
    query: &str,
    types: &[Oid],
) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::PARSE);
    message.cstr(name).cstr(query).count(types.len());
    for &oid in types {
        message.u32(oid);
    }
    message.finish()
}

/// Appends a Bind. Formats are none (all text), one for all, or one each.
pub fn bind<'p>(
    out: &mut BytesMut,
    portal: &str,
    statement: &str,
    parameter_formats: &[Format],
    parameters: impl ExactSizeIterator<Item = Option<&'p [u8]>>,
    result_formats: &[Format],
) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::BIND);
    message.cstr(portal).cstr(statement);
    formats(&mut message, parameter_formats);
    message.count(parameters.len());
    for parameter in parameters {
        message.value(parameter);
    }
    formats(&mut message, result_formats);
    message.finish()
}

fn formats(message: &mut Writer<'_>, formats: &[Format]) {
    message.count(formats.len());
    for format in formats {
        message.i16(format.code());
    }
}

/// Appends the Bind with this body under other names: what the client said, for the statement a server knows.
pub fn bind_renamed(
    out: &mut BytesMut,
    body: &[u8],
    statement: &str,
    portal: &str,
) -> Result<(), RenameError> {
    let mut reader = Reader::new(body);
    reader.cstr_bytes()?;
    reader.cstr_bytes()?;
    let rest = reader.rest();
    // Every execution of a prepared statement comes by here: one growth of the buffer at most.
    out.reserve(HEADER + portal.len() + statement.len() + 2 + rest.len());
    let mut message = Writer::tagged(out, tag::BIND);
    message.cstr(portal).cstr(statement).bytes(rest);
    Ok(message.finish()?)
}

/// A Bind that cannot be copied under other names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// The body is not a Bind's.
    #[error(transparent)]
    Body(#[from] ProtocolError),
    /// The new names do not fit.
    #[error(transparent)]
    Names(#[from] EncodeError),
}

/// Appends a Describe.
pub fn describe(out: &mut BytesMut, kind: Target, name: &str) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::DESCRIBE);
    message.u8(kind.code()).cstr(name);
    message.finish()
}

/// Appends a Close.
pub fn close(out: &mut BytesMut, kind: Target, name: &str) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::CLOSE);
    message.u8(kind.code()).cstr(name);
    message.finish()
}

/// Appends an Execute; 0 rows is all.
pub fn execute(out: &mut BytesMut, portal: &str, max_rows: u32) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::EXECUTE);
    // More than i32::MAX rows would read as "all", which is what a reader of so many rows wants.
    message.cstr(portal).u32(max_rows);
    message.finish()
}

/// Appends a Query.
pub fn query(out: &mut BytesMut, text: &str) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::QUERY);
    message.cstr(text);
    message.finish()
}

/// Appends a Sync.
pub fn sync(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::SYNC, 0, 0, 0, 4]);
}

/// Appends a Flush.
pub fn flush(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::FLUSH, 0, 0, 0, 4]);
}

/// Appends a Terminate.
pub fn terminate(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::TERMINATE, 0, 0, 0, 4]);
}

/// Appends a CopyData.
pub fn copy_data(out: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::COPY_DATA);
    message.bytes(data);
    message.finish()
}

/// Appends a CopyDone.
pub fn copy_done(out: &mut BytesMut) {
    out.extend_from_slice(&[tag::COPY_DONE, 0, 0, 0, 4]);
}

/// Appends a CopyFail with a reason.
pub fn copy_fail(out: &mut BytesMut, reason: &str) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::COPY_FAIL);
    message.cstr(reason);
    message.finish()
}

/// Appends a PasswordMessage: the password in clear, or the answer to an md5 challenge.
pub fn password(out: &mut BytesMut, password: &[u8]) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::PASSWORD);
    message.cstr_bytes(password);
    message.finish()
}

/// Appends a SASLInitialResponse.
pub fn sasl_initial_response(
    out: &mut BytesMut,
    mechanism: &str,
    response: &[u8],
) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::PASSWORD);
    message.cstr(mechanism).value(Some(response));
    message.finish()
}

/// Appends a SASLResponse.
pub fn sasl_response(out: &mut BytesMut, response: &[u8]) -> Result<(), EncodeError> {
    let mut message = Writer::tagged(out, tag::PASSWORD);
    message.bytes(response);
    message.finish()
}

/// Appends a StartupMessage of protocol 3 with this minor version.
pub fn startup<'p>(
    out: &mut BytesMut,
    minor: u16,
    parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<(), EncodeError> {
    let mut message = Writer::untagged(out);
    message.u32(startup::version(minor));
    for (name, value) in parameters {
        message.cstr(name).cstr(value);
    }
    message.u8(0);
    message.finish()
}

/// Appends an SSLRequest.
pub fn ssl_request(out: &mut BytesMut) {
    let mut message = Writer::untagged(out);
    message.u32(startup::code::SSL);
    message.finish_ours();
}

/// Appends a CancelRequest.
pub fn cancel_request(out: &mut BytesMut, pid: u32, key: &[u8]) {
    let mut message = Writer::untagged(out);
    message.u32(startup::code::CANCEL).u32(pid).bytes(key);
    message.finish_ours();
}
