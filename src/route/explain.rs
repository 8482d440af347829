//! A route for people: `keyway route` and `EXPLAIN (ROUTE)`.

use crate::route::error::RouteError;
use crate::route::key::Values;
use crate::route::plan::{Access, Plan, PlanKind};
use crate::route::recipe::Recipe;
use crate::topology::Topology;
use crate::wire::error::ClientError;

/// What to show of one statement. Names and buckets, never a literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// `single`, `any`, `scatter`, `broadcast` or `refused`.
    pub plan: String,
    /// `read`, `lock`, `write`, `schema`.
    pub access: String,
    /// The tables.
    pub tables: Vec<String>,
    /// Per sharded reference: the table and its buckets, `None` for all.
    pub pins: Vec<(String, Option<Vec<u16>>)>,
    /// The shards' names.
    pub shards: Vec<String>,
    /// Why this route.
    pub reason: String,
    /// The refusal's DETAIL and HINT.
    pub detail: Option<String>,
    /// The refusal's HINT.
    pub hint: Option<String>,
    /// The text the shards get, when it is not the client's own.
    pub rewritten: bool,
    /// Why the session keeps its server.
    pub pinned: Option<String>,
    /// Whether its answer is kept, where answers are.
    pub cache: Option<String>,
    /// The epoch it was planned by.
    pub epoch: u64,
}

/// How many buckets a line names.
const BUCKETS_SHOWN: usize = 8;

/// Explains a plan.
#[must_use]
pub fn explain(
    recipe: &Recipe,
    plan: &Plan,
    values: &Values<'_>,
    topology: &Topology,
) -> Explanation {
    let shards = plan
        .shards
        .iter()
        .filter_map(|shard| {
            topology
                .shards
                .get(usize::from(shard.0))
                .map(|shard| shard.name.clone())
        })
        .collect();
    let pins = recipe
        .pins(values, topology)
        .into_iter()
        .map(|(table, buckets)| {
            (
                table,
                buckets.map(|buckets| buckets.iter().map(|bucket| bucket.0).collect()),
            )
        })
        .collect();
    Explanation {
        plan: kind_name(plan.kind).to_owned(),
        access: access_name(plan.access).to_owned(),
        tables: plan.tables.iter().map(ToString::to_string).collect(),
        pins,
        shards,
        reason: recipe.reason.clone(),
        detail: None,
        hint: None,
        rewritten: plan.text.is_some() || recipe.makes.is_some(),
        pinned: plan.pin.map(|pin| format!("{pin:?}")),
        cache: None,
        epoch: plan.epoch,
    }
}

/// Explains a refusal.
#[must_use]
pub fn explain_refusal(error: &RouteError, topology: &Topology) -> Explanation {
    Explanation {
        plan: "refused".to_owned(),
        access: "none".to_owned(),
        tables: Vec::new(),
        pins: Vec::new(),
        shards: Vec::new(),
        reason: format!("{} {error}", error.sqlstate().code()),
        detail: error.detail(),
        hint: error.hint(),
        rewritten: false,
        pinned: None,
        cache: None,
        epoch: topology.epoch,
    }
}

impl Explanation {
    /// One fact per line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.shards.as_slice() {
            [] => lines.push(format!("Plan: {}", self.plan)),
            shards => lines.push(format!("Plan: {} on {}", self.plan, shards.join(", "))),
        }
        lines.push(format!("  Reason: {}", self.reason));
        if !self.tables.is_empty() {
            lines.push(format!("  Tables: {}", self.tables.join(", ")));
        }
        for (table, buckets) in &self.pins {
            lines.push(match buckets.as_deref() {
                None => format!("  Pin: {table}: all buckets"),
                Some([]) => format!("  Pin: {table}: no row can match"),
                Some(buckets) => {
                    let shown: Vec<String> = buckets
                        .iter()
                        .take(BUCKETS_SHOWN)
                        .map(ToString::to_string)
                        .collect();
                    let more = buckets.len().saturating_sub(BUCKETS_SHOWN);
                    let rest = if more == 0 {
                        String::new()
                    } else {
                        format!(" and {more} more")
                    };
                    format!("  Pin: {table}: bucket {}{rest}", shown.join(", "))
                }
            });
        }
        if self.plan != "refused" {
            lines.push(format!("  Access: {}", self.access));
        }
        if self.rewritten {
            lines.push("  Text: rewritten for the shards".to_owned());
        }
        if let Some(pin) = &self.pinned {
            lines.push(format!("  Server: kept ({pin})"));
        }
        lines.extend(self.cache.iter().map(|cache| format!("  Cache: {cache}")));
        lines.extend(
            self.detail
                .iter()
                .map(|detail| format!("  Detail: {detail}")),
        );
        lines.extend(self.hint.iter().map(|hint| format!("  Hint: {hint}")));
        lines.push(format!("  Epoch: {}", self.epoch));
        lines
    }

    /// The same as one JSON object.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "plan": self.plan,
            "access": self.access,
            "tables": self.tables,
            "pins": self.pins.iter().map(|(table, buckets)| {
                serde_json::json!({ "table": table, "buckets": buckets })
            }).collect::<Vec<_>>(),
            "shards": self.shards,
            "reason": self.reason,
            "detail": self.detail,
            "hint": self.hint,
            "rewritten": self.rewritten,
            "server_kept": self.pinned,
            "cache": self.cache,
            "epoch": self.epoch,
        })
    }
}

/// A plan kind's name.
#[must_use]
pub fn kind_name(kind: PlanKind) -> &'static str {
    match kind {
        PlanKind::Single => "single",
        PlanKind::Any => "any",
        PlanKind::Scatter => "scatter",
        PlanKind::Broadcast => "broadcast",
    }
}

/// An access' name.
#[must_use]
pub fn access_name(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Lock => "lock",
        Access::Write => "write",
        Access::Schema => "schema",
        Access::Upkeep => "upkeep",
    }
}
