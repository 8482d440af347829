//! The packets before the first message (manual, 55.2.1 "Start-up", 55.2.10 "SSL Session Encryption" and 55.7
//! StartupMessage, CancelRequest, SSLRequest, GSSENCRequest): a length, a code, no tag. And what protocol 3.2 is
//! negotiated down to.

use crate::wire::backend::{self, KEY_MAX};
use crate::wire::error::{ClientError, ProtocolError, SqlState};
use crate::wire::read::Reader;
use crate::wire::write::Writer;
use bytes::{Bytes, BytesMut};
use std::fmt;

/// The major version of the protocol.
pub const MAJOR: u16 = 3;
/// The newest minor version we speak.
pub const NEWEST_MINOR: u16 = 2;
/// The longest packet we take, its length field not counted: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const PACKET_MAX: usize = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// Whether the first byte of a connection starts a TLS handshake without asking first (`sslnegotiation=direct`). No
/// startup packet begins so: it would be longer than is allowed.
#[must_use]
pub fn starts_tls(first: u8) -> bool {
    first == 0x16
}

/// A packet that a client may begin with.
#[derive(Clone, PartialEq, Eq)]
pub enum Startup {
    /// May we speak TLS? The answer is one byte, `S` or `N`.
    Ssl,
    /// May we speak GSSAPI encryption? The answer is one byte.
    Gss,
    /// Stop what that process does. There is no answer.
    Cancel {
        /// The process.
        pid: u32,
        /// Its secret, 4 to 256 bytes.
        key: Bytes,
    },
    /// Begin a session.
    Start {
        /// The minor version of protocol 3 that the client asks for.
        minor: u16,
        /// The parameters in the client's order. `user` is there and not empty.
        parameters: Vec<(String, String)>,
    },
}

/// Keys and parameters (`options` may hold secrets) are not shown.
impl fmt::Debug for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssl => f.write_str("Ssl"),
            Self::Gss => f.write_str("Gss"),
            Self::Cancel { pid, .. } => f
                .debug_struct("Cancel")
                .field("pid", pid)
                .finish_non_exhaustive(),
            Self::Start { minor, .. } => f
                .debug_struct("Start")
                .field("minor", minor)
                .finish_non_exhaustive(),
        }
    }
}

/// A first packet that cannot be. The connection ends; PostgreSQL answers the first two by closing it only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length is impossible: what speaks here is hardly PostgreSQL's protocol.
    #[error("invalid length of startup packet")]
    Length,
    /// A request of fixed form (SSLRequest, GSSENCRequest, CancelRequest) has another length.
    #[error("invalid length of {packet} packet")]
    RequestLength {
        /// Which request.
        packet: &'static str,
    },
    /// Another major version.
    #[error(
        "unsupported frontend protocol {major}.{minor}: server supports {MAJOR}.0 to {MAJOR}.{NEWEST_MINOR}"
    )]
    Version {
        /// The version asked for.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// The parameters do not end where the packet does.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A parameter is not in UTF-8.
    #[error(transparent)]
    Text(#[from] ProtocolError),
    /// Who is it?
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
}

impl ClientError for StartupError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Length | Self::RequestLength { .. } | Self::Layout => {
                SqlState::PROTOCOL_VIOLATION
            }
            Self::Version { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Text(error) => error.sqlstate(),
            Self::NoUser => SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        }
    }
}

impl StartupError {
    /// Whether the client is told, rather than just hung up on. To something that does not speak the protocol there
    /// is nothing to say.
    #[must_use]
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::Length | Self::RequestLength { .. })
    }
}

impl Startup {
    /// The packet at the start of `buf` and its whole length, once it has arrived. A length that cannot be is refused
    /// as soon as its four bytes are there.
    pub fn parse(buf: &[u8]) -> Result<Option<(Self, usize)>, StartupError> {
        let Some((&length, rest)) = buf.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes(length))
            .ok()
            .and_then(|length| length.checked_sub(4))
            .filter(|length| (4..=PACKET_MAX).contains(length))
            .ok_or(StartupError::Length)?;
        match rest.get(..length) {
            Some(packet) => Ok(Some((Self::decode(packet)?, 4 + length))),
            None => Ok(None),
        }
    }

    fn decode(packet: &[u8]) -> Result<Self, StartupError> {
        let mut reader = Reader::new(packet);
        match reader.u32()? {
            SSL_REQUEST => match reader.remaining() {
                0 => Ok(Self::Ssl),
                _ => Err(StartupError::RequestLength {
                    packet: "SSL request",
                }),
            },
            GSSENC_REQUEST => match reader.remaining() {
                0 => Ok(Self::Gss),
                _ => Err(StartupError::RequestLength {
                    packet: "GSSAPI encryption request",
                }),
            },
            CANCEL_REQUEST => match reader.remaining().checked_sub(4) {
                Some(4..=KEY_MAX) => Ok(Self::Cancel {
                    pid: reader.u32()?,
                    key: Bytes::copy_from_slice(reader.rest()),
                }),
                _ => Err(StartupError::RequestLength {
                    packet: "cancel request",
                }),
            },
            version => {
                let [a, b, c, d] = version.to_be_bytes();
                let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                if major != MAJOR {
                    return Err(StartupError::Version { major, minor });
                }
                let parameters = read_parameters(reader)?;
                match parameter(&parameters, "user") {
                    None | Some("") => Err(StartupError::NoUser),
                    Some(_) => Ok(Self::Start { minor, parameters }),
                }
            }
        }
    }
}

/// Names and values in turn, then one zero byte, which is the packet's last.
fn read_parameters(mut reader: Reader<'_>) -> Result<Vec<(String, String)>, StartupError> {
    let layout = |error| match error {
        ProtocolError::Truncated | ProtocolError::Unterminated => StartupError::Layout,
        error => StartupError::Text(error),
    };
    let mut parameters = Vec::new();
    loop {
        let name = reader.cstr().map_err(layout)?;
        if name.is_empty() {
            reader.finish().map_err(|_| StartupError::Layout)?;
            return Ok(parameters);
        }
        let value = reader.cstr().map_err(layout)?;
        parameters.push((name.to_owned(), value.to_owned()));
    }
}

/// The value of a parameter; the last counts when it was given twice, as in PostgreSQL.
#[must_use]
pub fn parameter<'p>(parameters: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let found = parameters.iter().rev().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// What is spoken after a startup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated<'p> {
    /// The minor version that is spoken.
    pub minor: u16,
    /// Protocol options (`_pq_.…`) the client asked for; we know none.
    pub unsupported: Vec<&'p str>,
    /// Whether the client is to be told with [`negotiate_protocol_version`] before it is asked for its password.
    pub told: bool,
}

/// What we speak with a client that asks for this (manual, 55.2.1: "NegotiateProtocolVersion").
#[must_use]
pub fn negotiate(minor: u16, parameters: &[(String, String)]) -> Negotiated<'_> {
    let unsupported: Vec<&str> = parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    let told = minor > NEWEST_MINOR || !unsupported.is_empty();
    Negotiated {
        minor: minor.min(NEWEST_MINOR),
        unsupported,
        told,
    }
}

/// Appends a NegotiateProtocolVersion.
pub fn negotiate_protocol_version(out: &mut BytesMut, negotiated: &Negotiated<'_>) {
    let mut message = Writer::tagged(out, backend::tag::NEGOTIATE_PROTOCOL_VERSION);
    message.u32(version(negotiated.minor));
    message.long_count(negotiated.unsupported.len());
    for option in &negotiated.unsupported {
        message.cstr_lossy(option);
    }
    message.finish_ours();
}

/// How long the cancel key of a session of this minor version is: 4 bytes before 3.2, PostgreSQL's 32 since.
#[must_use]
pub const fn key_len(minor: u16) -> usize {
    if minor >= 2 { 32 } else { 4 }
}

/// A version of protocol 3 as it stands in a packet.
pub(crate) fn version(minor: u16) -> u32 {
    u32::from(MAJOR) << 16 | u32::from(minor)
}

/// The codes of the packets that are not a StartupMessage.
pub(crate) mod code {
    pub(crate) const CANCEL: u32 = super::CANCEL_REQUEST;
    pub(crate) const SSL: u32 = super::SSL_REQUEST;
}

/// A startup parameter `options` that we cannot follow. Values are not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A name without a value.
    #[error("{switch}{name} requires a value")]
    NoValue {
        /// `-c ` or `--`.
        switch: &'static str,
        /// The setting's name.
        name: String,
    },
    /// Something that is no switch, or one that sets no parameter by name.
    #[error("invalid command-line argument for server process: {argument}")]
    Argument {
        /// The argument, up to its `=`.
        argument: String,
    },
}

impl ClientError for OptionsError {
    fn sqlstate(&self) -> SqlState {
        SqlState::SYNTAX_ERROR
    }

    fn hint(&self) -> Option<String> {
        Some("Write each setting as -c name=value or --name=value.".to_owned())
    }
}

/// Reads the startup parameter `options`: arguments of a server process, of which we take those that set a parameter:
/// `-c name=value` and `--name=value`. Blanks separate arguments and a backslash takes the next character as it is
/// (manual, 55.7 StartupMessage; PostgreSQL's `pg_split_opts` and `ParseLongOption`).
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut arguments = split_options(options).into_iter();
    while let Some(argument) = arguments.next() {
        let (switch, setting) = if let Some(setting) = argument.strip_prefix("--") {
            ("--", setting.to_owned())
        } else if let Some(setting) = argument.strip_prefix("-c") {
            match setting {
                "" => ("-c ", arguments.next().unwrap_or_default()),
                setting => ("-c ", setting.to_owned()),
            }
        } else {
            let end = argument.find('=').unwrap_or(argument.len());
            return Err(OptionsError::Argument {
                argument: argument[..end].to_owned(),
            });
        };
        match setting.split_once('=') {
            // As in PostgreSQL, a dash in a name is an underscore.
            Some((name, value)) if !name.is_empty() => {
                settings.push((name.replace('-', "_"), value.to_owned()));
            }
            Some(_) => {
                return Err(OptionsError::Argument {
                    argument: switch.trim_end().to_owned(),
                });
            }
            None => {
                return Err(OptionsError::NoValue {
                    switch,
                    name: setting,
                });
            }
        }
    }
    Ok(settings)
}

/// Cuts `options` into arguments as PostgreSQL does.
fn split_options(options: &str) -> Vec<String> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let mut arguments = Vec::new();
    let mut rest = options.chars().peekable();
    loop {
        while rest.next_if(|&c| blank(c)).is_some() {}
        if rest.peek().is_none() {
            return arguments;
        }
        let mut argument = String::new();
        while let Some(c) = rest.next_if(|&c| !blank(c)) {
            match c {
                // A backslash at the very end stands for nothing.
                '\\' => argument.extend(rest.next()),
                c => argument.push(c),
            }
        }
        arguments.push(argument);
    }
}
