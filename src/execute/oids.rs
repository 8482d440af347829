//! User types' OIDs differ from shard to shard; clients see the catalog shard's.

use crate::wire::backend::{self, tag};
use crate::wire::error::ProtocolError;
use bytes::BytesMut;
use hashbrown::HashMap;

/// OIDs below this are PostgreSQL's own and the same everywhere.
pub const FIRST_USER_OID: u32 = 16_384;

/// One shard's user type OIDs and the catalog shard's, both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OidMap {
    to_client: HashMap<u32, u32>,
    to_server: HashMap<u32, u32>,
}

impl OidMap {
    /// From pairs (this shard's, the catalog shard's). `None` when all are equal and nothing needs mapping.
    pub fn new(pairs: impl IntoIterator<Item = (u32, u32)>) -> Option<Self> {
        let mut map = Self::default();
        let mut differs = false;
        for (server, client) in pairs {
            differs |= server != client;
            map.to_client.insert(server, client);
            map.to_server.insert(client, server);
        }
        differs.then_some(map)
    }

    /// What a client knows this server's OID as. A type the catalog shard does not have shows as unknown (705).
    #[must_use]
    pub fn client(&self, server: u32) -> u32 {
        if server < FIRST_USER_OID { server } else { self.to_client.get(&server).copied().unwrap_or(705) }
    }

    /// What this server knows the client's OID as; `None` when it has no such type.
    #[must_use]
    pub fn server(&self, client: u32) -> Option<u32> {
        if client < FIRST_USER_OID { Some(client) } else { self.to_server.get(&client).copied() }
    }

    /// Appends a RowDescription or ParameterDescription with the client's OIDs.
    ///
    /// # Errors
    /// The body is malformed.
    pub fn description(&self, message: u8, body: &[u8], out: &mut BytesMut) -> Result<(), ProtocolError> {
        if message == tag::PARAMETER_DESCRIPTION {
            let mut types = backend::read_parameter_description(body)?;
            for oid in &mut types {
                *oid = self.client(*oid);
            }
            backend::parameter_description(out, &types);
        } else {
            let mut fields = backend::read_row_description(body)?;
            for field in &mut fields {
                field.type_oid = self.client(field.type_oid);
            }
            backend::row_description(out, fields.iter());
        }
        Ok(())
    }
}
