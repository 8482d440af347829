//! Batches of one query, which a kept answer may answer.

use crate::cache::results::reply::Asked;
use crate::execute::oids;
use crate::execute::relay::Described;
use crate::route::keep::NotKept;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::extended::Item;
use crate::session::kept::BoundTo;
use crate::session::portal::Effects;
use crate::session::prepared::{Body, Prepared};
use crate::wire::backend::tag;
use crate::wire::frame::{HEADER, next_frame};
use crate::wire::frontend::Bind;
use bytes::Bytes;
use std::rc::Rc;

/// A batch of one query: Parse if need be, Bind of the unnamed portal, Describe of it if wanted, Execute of all its rows.
struct OneQuery<'a> {
    prepared: &'a Rc<Prepared>,
    bind: &'a Bytes,
    effects: &'a Rc<Effects>,
    parses: bool,
    described: bool,
}

impl<'a> OneQuery<'a> {
    fn of(items: &[&'a Item]) -> Option<Self> {
        let (parsed, items) = match items {
            [Item::Parse { prepared }, rest @ ..] => (Some(prepared), rest),
            items => (None, items),
        };
        let [
            Item::Bind {
                portal: bound,
                prepared,
                body,
            },
            rest @ ..,
        ] = items
        else {
            return None;
        };
        let (described, rest) = match rest {
            [Item::DescribePortal { portal, .. }, rest @ ..] => (Some(portal), rest),
            rest => (None, rest),
        };
        let [
            Item::Execute {
                portal,
                rows_max: 0,
                effects,
                copies: false,
                cursor: None,
                sets,
                ..
            },
        ] = rest
        else {
            return None;
        };
        let unnamed =
            portal.is_empty() && bound.is_empty() && described.is_none_or(String::is_empty);
        // What is parsed must be what is bound: of nothing else is it known that a server can read it.
        let is_bound = parsed.is_none_or(|parsed| Rc::ptr_eq(parsed, prepared));
        (unnamed && is_bound && sets.is_empty()).then_some(Self {
            prepared,
            bind: body,
            effects,
            parses: parsed.is_some(),
            described: described.is_some(),
        })
    }
}

impl Session {
    /// Answers a batch that is one query by a kept answer. False when it must be run; its answer is kept then, if it may
    /// be.
    pub(super) async fn batch_kept(&mut self, items: &[&Item]) -> Result<bool, SessionError> {
        let Some(query) = OneQuery::of(items) else {
            self.passed_by(NotKept::Several);
            return Ok(false);
        };
        let Body::Routed(scanned) = &query.prepared.body else {
            self.passed_by(NotKept::Utility);
            return Ok(false);
        };
        if query.prepared.sql_types.is_some() || query.prepared.rewritten {
            self.passed_by(NotKept::Utility);
            return Ok(false);
        }
        let bind =
            Bind::decode(query.bind).map_err(|error| SessionError::from_client_error(&error))?;
        let bound = BoundTo {
            types: &query.prepared.types,
            bind: &bind,
        };
        let asked = Asked::Batch {
            parses: query.parses,
            described: query.described,
        };
        let keeps = query.effects.keeps.as_ref().map_err(|why| *why);
        let keeps = keeps.map(|(shards, keep)| (shards, keep));
        let text = &query.prepared.text;
        let kept = self
            .answer_kept(keeps, text, scanned, Some(bound), asked)
            .await?;
        let Some(entry) = kept else {
            return Ok(false);
        };
        if query.described {
            let (told, described) = entry.reply.parts();
            self.remember_kept(query.prepared, &told[..described]);
        }
        self.told_at_once(query.prepared, false, query.bind);
        self.tell_kept(&entry, asked);
        self.notes().items_done += items.len();
        if self.block.is_none() {
            self.names.transaction_ended();
        }
        Ok(true)
    }

    /// The client is told these columns of a statement, as if a server had described them.
    fn remember_kept(&mut self, prepared: &Rc<Prepared>, description: &[u8]) {
        let frame = next_frame(description, usize::MAX);
        let Ok(Some(frame)) = frame else {
            return;
        };
        let body = &description[HEADER..frame.len];
        if let Ok(columns) = oids::digest(None, tag::ROW_DESCRIPTION, body) {
            let described = Described {
                parameters: None,
                columns,
            };
            self.remember(prepared, &described);
        }
    }
}
