//! Logical replication: what a walsender streams in CopyData (manual, 55.4), what the plugin pgoutput says in it (55.5 and
//! 55.9), protocol version 1, and what is answered.
//!
//! Rows themselves are not read: of a change only its relation is told. So the beginning of a message is enough for all but a
//! TRUNCATE of many tables, and what follows may be missing.

use crate::wire::backend::copy_data;
use crate::wire::error::ProtocolError;
use crate::wire::read::Reader;
use bytes::BytesMut;
use smallvec::SmallVec;
use std::fmt;

/// A place in a server's write-ahead log, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// As PostgreSQL prints it: `16/B374D848`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |text: &str| u32::from_str_radix(text, 16).ok();
        Some(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// What a CopyData of a walsender holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streamed<'a> {
    /// XLogData: something the plugin says.
    Said(&'a [u8]),
    /// Primary keepalive: everything up to here has been sent.
    KeepAlive {
        /// Where the walsender has read to.
        end: Lsn,
        /// It wants a status update at once.
        asks: bool,
    },
}

/// Reads a CopyData's body, of which an XLogData's end may be missing.
///
/// # Errors
/// It is neither.
pub fn read_streamed(body: &[u8]) -> Result<Streamed<'_>, ProtocolError> {
    let mut reader = Reader::new(body);
    match reader.u8()? {
        b'w' => {
            // Start, end and clock.
            reader.bytes(24)?;
            Ok(Streamed::Said(reader.rest()))
        }
        b'k' => {
            let end = lsn(&mut reader)?;
            reader.bytes(8)?;
            let asks = reader.u8()? != 0;
            reader.finish()?;
            Ok(Streamed::KeepAlive { end, asks })
        }
        _ => Err(ProtocolError::UnexpectedFromServer {
            what: "message in a stream of changes",
        }),
    }
}

/// What pgoutput says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'a> {
    /// The changes of a transaction follow, up to its [`Said::Commit`].
    Begin {
        /// The transaction's number, without its epoch.
        xid: u32,
    },
    /// All of them have been said; the transaction is committed.
    Commit {
        /// Behind its commit record.
        end: Lsn,
    },
    /// What a relation's number means, from here on.
    Relation {
        /// Its OID.
        id: u32,
        /// Its schema; empty is `pg_catalog`. In UTF-8 unless the server's names are not.
        schema: &'a [u8],
        /// Its name, the same.
        name: &'a [u8],
    },
    /// A row was inserted, updated or deleted.
    Changed {
        /// The relation's OID.
        relation: u32,
    },
    /// Relations were emptied.
    Truncated {
        /// Their OIDs.
        relations: SmallVec<[u32; 4]>,
    },
    /// What changes no rows: a type, an origin, a message.
    Nothing,
}

/// Reads what pgoutput says. What is behind the fields that are told is not looked at.
///
/// # Errors
/// It is nothing that pgoutput says in version 1, or it ends too early.
pub fn read_said(message: &[u8]) -> Result<Said<'_>, ProtocolError> {
    let mut reader = Reader::new(message);
    Ok(match reader.u8()? {
        b'B' => {
            // The final LSN and the time.
            reader.bytes(16)?;
            Said::Begin { xid: reader.u32()? }
        }
        b'C' => {
            // Flags, and where the commit record begins.
            reader.bytes(9)?;
            Said::Commit {
                end: lsn(&mut reader)?,
            }
        }
        b'R' => Said::Relation {
            id: reader.u32()?,
            schema: reader.cstr_bytes()?,
            name: reader.cstr_bytes()?,
        },
        b'I' | b'U' | b'D' => Said::Changed {
            relation: reader.u32()?,
        },
        b'T' => {
            let count = reader.u32()? as usize;
            reader.u8()?;
            if count > reader.remaining() / 4 {
                return Err(ProtocolError::Truncated);
            }
            let relations = (0..count).map(|_| reader.u32());
            Said::Truncated {
                relations: relations.collect::<Result<_, _>>()?,
            }
        }
        b'Y' | b'O' | b'M' => Said::Nothing,
        _ => {
            return Err(ProtocolError::UnexpectedFromServer {
                what: "message of pgoutput",
            });
        }
    })
}

/// Appends a standby status update: everything up to `end` has been taken in. `asks` for a keepalive at once. `clock` is in
/// microseconds since 2000-01-01.
pub fn status_update(out: &mut BytesMut, end: Lsn, clock: i64, asks: bool) {
    let mut body = [0; 34];
    body[0] = b'r';
    // Written, flushed and applied.
    for field in 0..3 {
        body[1 + field * 8..][..8].copy_from_slice(&end.0.to_be_bytes());
    }
    body[25..33].copy_from_slice(&clock.to_be_bytes());
    body[33] = u8::from(asks);
    copy_data(out, &body);
}

fn lsn(reader: &mut Reader<'_>) -> Result<Lsn, ProtocolError> {
    let high = reader.u32()?;
    let low = reader.u32()?;
    Ok(Lsn(u64::from(high) << 32 | u64::from(low)))
}
