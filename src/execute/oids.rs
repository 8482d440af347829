//! User types' OIDs differ from shard to shard; clients see the home shard's.

use crate::topology::{FIRST_USER_OID, OidMap};
use crate::wire::backend::{self, tag};
use crate::wire::error::ProtocolError;
use crate::wire::frontend::Format;
use bytes::BytesMut;

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

/// Gives columns that come from several shards the client's OIDs. `map` is that of the shard that described them;
/// `differ` says that some shard of them numbers types in another way.
///
/// # Errors
/// Binary values would carry a server's OIDs.
pub fn merged(
    map: Option<&OidMap>,
    differ: bool,
    fields: &mut [backend::Field],
) -> Result<(), OidError> {
    for field in fields {
        let user = field.type_oid >= FIRST_USER_OID;
        if differ
            && field.format == Format::Binary
            && (RECORDS.contains(&field.type_oid) || (user && field.type_len < 0))
        {
            return Err(OidError::Inside);
        }
        if let Some(map) = map {
            field.type_oid = map.client(field.type_oid);
        }
    }
    Ok(())
}

/// Appends a RowDescription or ParameterDescription with the client's OIDs.
///
/// # Errors
/// The body is malformed, or binary values of the row would carry this server's OIDs.
pub fn description(
    map: &OidMap,
    message: u8,
    body: &[u8],
    out: &mut BytesMut,
) -> Result<(), OidError> {
    if message == tag::PARAMETER_DESCRIPTION {
        let mut types = backend::read_parameter_description(body)?;
        for oid in &mut types {
            *oid = map.client(*oid);
        }
        backend::parameter_description(out, &types);
        return Ok(());
    }
    let mut fields = backend::read_row_description(body)?;
    for field in &mut fields {
        let mapped = map.client(field.type_oid);
        // Enums and domains have no OID in their values; arrays and composites do, and variable length shows no
        // difference, so every user type but a fixed-length one is suspect.
        let suspect =
            RECORDS.contains(&field.type_oid) || (mapped != field.type_oid && field.type_len < 0);
        if field.format == Format::Binary && suspect {
            return Err(OidError::Inside);
        }
        field.type_oid = mapped;
    }
    backend::row_description(out, fields.iter());
    Ok(())
}

/// A description as a client knows it: two that differ in a type, a modifier or a column's name have other digests.
///
/// # Errors
/// The body is malformed.
pub fn digest(map: Option<&OidMap>, message: u8, body: &[u8]) -> Result<u128, ProtocolError> {
    let client = |oid: u32| map.map_or(oid, |map| map.client(oid));
    let mut text = Vec::new();
    match message {
        tag::PARAMETER_DESCRIPTION => {
            for oid in backend::read_parameter_description(body)? {
                text.extend_from_slice(&client(oid).to_be_bytes());
            }
        }
        tag::ROW_DESCRIPTION => {
            for field in backend::read_row_description(body)? {
                text.extend_from_slice(&client(field.type_oid).to_be_bytes());
                text.extend_from_slice(&field.type_modifier.to_be_bytes());
                text.extend_from_slice(field.name.as_bytes());
                text.push(0);
            }
        }
        // No columns at all.
        _ => text.push(0),
    }
    Ok(xxhash_rust::xxh3::xxh3_128(&text))
}
