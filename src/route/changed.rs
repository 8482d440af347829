//! What an open transaction has changed of the schema. Its later statements are planned by the schema as it was before,
//! so those that the change may concern cannot be planned at all.
//!
//! In: a schema change's tree and shards; later a statement's shape and plan. Out: may the one concern the other? By the
//! text, which can only find too much: a changed name anywhere in it, or in a view that it reads, counts.

use crate::route::bind::tables::{Found, find_table};
use crate::route::choose::context::Context;
use crate::route::implied::{is_word, text_with_views};
use crate::route::plan::{Plan, ShardSet};
use crate::route::schema::created_relies_on_defaults;
use crate::statement::tree::{AlterAction, Becomes, Ddl, Name, Statement};

/// One change.
#[derive(Debug)]
pub(crate) struct Changed {
    /// What it named, in lower case.
    names: Vec<String>,
    reach: Reach,
    /// Where it was made.
    shards: ShardSet,
}

/// How far a change reaches beyond what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// No further.
    Named,
    /// To tables of its kin, a partition or a child say, which it does not name.
    Tables,
    /// Nobody knows.
    Everything,
}

impl Changed {
    /// What a change has changed that a plan may depend on; `None` for nothing. `tree` is missing when it was not
    /// understood.
    pub(crate) fn by(
        tree: Option<&Statement>,
        shards: ShardSet,
        context: &Context<'_>,
    ) -> Option<Self> {
        let mut names: Vec<&Name> = Vec::new();
        let mut new_name = None;
        let reach = match tree {
            // VACUUM, ANALYZE and kin.
            Some(Statement::Maintenance { .. }) => return None,
            Some(Statement::Ddl(ddl)) => match ddl {
                Ddl::CreateIndex { .. } => return None,
                // One that is configured has no columns yet, which plans allow for; one that exists stays as it is. Which
                // values must be left to their defaults no plan knows before there are columns.
                Ddl::CreateTable(create) => match find_table(context, &create.name) {
                    Ok(Found::Table(table))
                        if context.database.tables.contains_key(&table.name)
                            && !created_relies_on_defaults(create, &table) =>
                    {
                        return None;
                    }
                    _ => {
                        names.push(&create.name);
                        Reach::Named
                    }
                },
                Ddl::CreateAs { name, .. } => {
                    names.push(name);
                    Reach::Named
                }
                Ddl::AlterTable { table, actions } => {
                    names.push(table);
                    let own = |action: &AlterAction| {
                        matches!(
                            action,
                            AlterAction::Local
                                | AlterAction::AddConstraint(_)
                                | AlterAction::SetDefault(..)
                        )
                    };
                    new_name = actions.iter().find_map(|action| match action {
                        AlterAction::RenameTable(name) => Some(name.as_str()),
                        _ => None,
                    });
                    if actions.iter().all(own) {
                        Reach::Named
                    } else {
                        Reach::Tables
                    }
                }
                Ddl::Drop {
                    kind,
                    names: dropped,
                    ..
                } => {
                    names.extend(dropped);
                    reach_of_drop(kind)?
                }
                Ddl::Other {
                    what,
                    tables,
                    name,
                    becomes,
                } => {
                    names.extend(tables.iter().chain(name));
                    new_name = match becomes {
                        Some(Becomes::Named(name)) => Some(name.as_str()),
                        Some(Becomes::InSchema(_)) | None => None,
                    };
                    reach_of_other(what)?
                }
            },
            _ => Reach::Everything,
        };
        let names = names.into_iter().map(|name| name.name.as_str());
        Some(Self {
            names: names.chain(new_name).map(str::to_lowercase).collect(),
            reach,
            shards,
        })
    }

    /// May it concern the statement of this shape and plan?
    pub(crate) fn concerns(&self, plan: &Plan, context: &Context<'_>) -> bool {
        let is_spread = plan.tables.iter().any(|name| {
            let table = context.database.tables.get(name);
            table.is_some_and(|table| context.is_spread(table.keyspace))
        });
        // Where everything that the statement reads, and all that was changed, is on one shard, that shard knows.
        let shard = self.shards.only();
        if !is_spread && shard.is_some() && shard == plan.shards.only() {
            return false;
        }
        let names_it = || {
            let text = text_with_views(context.shape, context.database);
            // A name may be written in escapes.
            text.contains("u&\"") || self.names.iter().any(|name| is_word(&text, name))
        };
        match self.reach {
            Reach::Named => names_it(),
            Reach::Tables => is_spread || names_it(),
            Reach::Everything => !plan.tables.is_empty() || context.shape.contains('('),
        }
    }

    /// What it named, for people.
    pub(crate) fn shown(&self) -> String {
        if self.names.is_empty() {
            "the schema".to_owned()
        } else {
            self.names.join(", ")
        }
    }
}

/// How far DROP reaches; `None` where no plan knows of such objects.
fn reach_of_drop(kind: &str) -> Option<Reach> {
    Some(match kind {
        "index" | "sequence" | "statistics" | "trigger" | "event trigger" | "publication" => {
            return None;
        }
        "table" | "view" | "materialized view" | "function" | "procedure" | "routine"
        | "aggregate" => Reach::Named,
        // CASCADE drops columns.
        "type" | "domain" | "policy" | "rule" => Reach::Tables,
        _ => Reach::Everything,
    })
}

/// As [`reach_of_drop`], for other changes.
fn reach_of_other(what: &str) -> Option<Reach> {
    Some(match what {
        // What DO does is its caller's to know: it runs on a shard that he named.
        "GRANT"
        | "REVOKE"
        | "COMMENT"
        | "SECURITY"
        | "DO"
        | "CREATE SEQUENCE"
        | "ALTER SEQUENCE"
        | "CREATE STATISTICS"
        | "ALTER STATISTICS"
        | "CREATE TRIGGER"
        | "ALTER INDEX"
        | "REFRESH MATERIALIZED VIEW" => return None,
        "CREATE FUNCTION"
        | "CREATE PROCEDURE"
        | "CREATE AGGREGATE"
        | "CREATE TYPE"
        | "CREATE DOMAIN"
        | "CREATE COLLATION"
        | "CREATE SCHEMA"
        | "ALTER FUNCTION"
        | "ALTER PROCEDURE"
        | "ALTER ROUTINE"
        | "ALTER AGGREGATE"
        | "ALTER VIEW"
        | "ALTER MATERIALIZED VIEW" => Reach::Named,
        "CREATE POLICY" | "ALTER POLICY" | "CREATE RULE" | "ALTER RULE" | "ALTER TYPE"
        | "ALTER DOMAIN" => Reach::Tables,
        _ => Reach::Everything,
    })
}
