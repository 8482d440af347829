//! User types' OIDs differ from shard to shard; clients see the home shard's.

use crate::topology::TypeMap;
use crate::wire::backend::{self, tag};
use crate::wire::error::ProtocolError;
use crate::wire::frontend::Format;
use crate::wire::types::FIRST_USER_OID;
use bytes::BytesMut;

/// PostgreSQL's `unknown`: how a client sees a type that the home shard does not have.
const UNKNOWN: u32 = 705;

/// `record` and `record[]`: their binary form carries the OIDs of the fields.
const RECORDS: [u32; 2] = [2249, 2287];

/// A description that cannot be told to the client.
#[derive(Debug, thiserror::Error)]
pub enum OidError {
    /// The message cannot be read.
    #[error(transparent)]
    Malformed(#[from] ProtocolError),
    /// Binary arrays and composites carry OIDs inside, which would be this shard's.
    #[error("a column's binary form carries type OIDs that differ from shard to shard")]
    Inside,
}

/// What a client knows this server's OID as.
#[must_use]
pub fn to_client(map: &TypeMap, oid: u32) -> u32 {
    if oid < FIRST_USER_OID {
        return oid;
    }
    match map.to_home.get(&oid) {
        Some(home) => home.unwrap_or(UNKNOWN),
        None if map.known => oid,
        None => UNKNOWN,
    }
}

/// What this server knows the client's OID as; `None` when it has no such type.
#[must_use]
pub fn to_server(map: &TypeMap, oid: u32) -> Option<u32> {
    if oid < FIRST_USER_OID {
        return Some(oid);
    }
    match map.from_home.get(&oid) {
        Some(server) => *server,
        None => map.known.then_some(oid),
    }
}

/// Are all OIDs the same there?
#[must_use]
pub fn is_trivial(map: &TypeMap) -> bool {
    map.known && map.to_home.is_empty() && map.from_home.is_empty()
}

/// Appends a RowDescription or ParameterDescription with the client's OIDs.
///
/// # Errors
/// The body is malformed, or binary values of the row would carry this server's OIDs.
pub fn description(map: &TypeMap, message: u8, body: &[u8], out: &mut BytesMut) -> Result<(), OidError> {
    if message == tag::PARAMETER_DESCRIPTION {
        let mut types = backend::read_parameter_description(body)?;
        for oid in &mut types {
            *oid = to_client(map, *oid);
        }
        backend::parameter_description(out, &types);
        return Ok(());
    }
    let mut fields = backend::read_row_description(body)?;
    for field in &mut fields {
        let mapped = to_client(map, field.type_oid);
        // Enums and domains have no OID in their values; arrays and composites do, and variable length shows no
        // difference, so every user type but a fixed-length one is suspect.
        let suspect = RECORDS.contains(&field.type_oid)
            || (mapped != field.type_oid && field.type_len < 0);
        if field.format == Format::Binary && suspect {
            return Err(OidError::Inside);
        }
        field.type_oid = mapped;
    }
    backend::row_description(out, fields.iter());
    Ok(())
}
