//! User types' OIDs differ from shard to shard; clients see the catalog shard's.

use crate::wire::backend::{self, tag};
use crate::wire::error::ProtocolError;
use bytes::BytesMut;

pub use crate::topology::OidMap;

impl OidMap {
    /// Appends a RowDescription or ParameterDescription with the client's OIDs.
    ///
    /// # Errors
    /// The body is malformed.
    pub fn description(
        &self,
        message: u8,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), ProtocolError> {
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
