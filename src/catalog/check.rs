//! `keyway check`: everything that is wrong between the configuration, the catalog and the servers, found in one go.
//!
//! [`check`] asks the servers; [`compare`] and what it calls only look at what they said.

use crate::catalog::agree::{Intent, agree};
use crate::catalog::read::migrations;
use crate::catalog::servers::Servers;
use crate::catalog::{CatalogError, read_settled};
use crate::config::Config;
use crate::topology::build::{
    Assignments, Schemas, build, constraint_beyond_one_shard, has_own_range, sequence_range,
};
use crate::topology::schema::{ConstraintKind, Relation, Schema};
use crate::topology::{Database, Keyspace, KeyspaceKind, Placement, TableName, Topology};
use futures_util::future::join_all;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The oldest PostgreSQL that Keyway works with (`pg_current_xact_id_if_assigned` came with it).
const VERSION_MIN: i32 = 130_000;

/// Control connections that Keyway itself opens on a server at most, listening included.
const CONTROL_CONNECTIONS: i64 = 3;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work, or could answer otherwise than one PostgreSQL would.
    Error,
    /// It works, with a reservation.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where: a key of the configuration, a shard, a table.
    pub place: String,
    /// What.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The outcome.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Tables that may be used again, as `database.table`.
    pub lifted: Vec<String>,
    /// Servers that answered.
    pub servers_reached: usize,
    /// Tables looked at.
    pub tables: usize,
    /// The configuration contradicts the catalog.
    #[serde(skip)]
    pub contradicts: bool,
}

impl Report {
    /// Any error?
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    fn add(&mut self, severity: Severity, place: impl Into<String>, what: impl Into<String>) {
        self.findings.push(Finding {
            severity,
            place: place.into(),
            what: what.into(),
            hint: None,
        });
    }

    fn add_with_hint(
        &mut self,
        severity: Severity,
        place: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let hint = Some(hint.into());
        self.findings.push(Finding {
            severity,
            place: place.into(),
            what: what.into(),
            hint,
        });
    }
}

/// Reaches every server and compares. Writes nothing but the lifting of refusals whose reason is gone.
///
/// # Errors
/// When TLS towards the servers cannot be set up at all; everything else is a finding.
pub async fn check(config: &Config) -> Result<Report, CatalogError> {
    let servers = Servers::new(config)?;
    let mut report = Report::default();
    let agreed = match agree(config, &servers, Intent::Look).await {
        Ok(agreed) => Some(agreed),
        Err(CatalogError::Contradicts(contradictions)) => {
            report.contradicts = true;
            for contradiction in contradictions {
                report.add(Severity::Error, contradiction.key, contradiction.what);
            }
            None
        }
        // Servers that do not answer are reported one by one below.
        Err(
            CatalogError::Unreachable { .. }
            | CatalogError::NoCatalog { .. }
            | CatalogError::CreateWithoutAll { .. },
        ) => None,
        Err(error) => {
            report.add(Severity::Error, "catalog", error.to_string());
            None
        }
    };
    if let Some(agreed) = agreed.as_ref().filter(|agreed| agreed.fresh) {
        report.add(
            Severity::Note,
            "catalog",
            format!(
                "there is none yet; `keyway serve` will create it on shard {}",
                agreed.catalog
            ),
        );
    }
    let mut assignments = agreed.as_ref().map_or_else(
        || Assignments::new(config),
        |agreed| agreed.assignments.clone(),
    );
    let schemas = ask_primaries(config, &servers, &mut assignments, &mut report).await;
    ask_replicas(config, &servers, &mut report).await;
    check_connections(config, &assignments, &schemas, &mut report);
    match build(config, &assignments, &schemas) {
        Ok(topology) => {
            compare(config, &topology, &schemas, &mut report);
            check_versions(&topology, &mut report);
            if let Some(agreed) = &agreed {
                lift_refusals(&servers, &agreed.catalog, &topology, &schemas, &mut report).await;
            }
        }
        Err(error) => report.add(Severity::Error, "catalog", error.to_string()),
    }
    report
        .findings
        .sort_by(|a, b| (a.severity, &a.place).cmp(&(b.severity, &b.place)));
    report.findings.dedup();
    Ok(report)
}

/// Every shard's schema, its history of migrations, and what the control login may do there.
async fn ask_primaries(
    config: &Config,
    servers: &Servers,
    assignments: &mut Assignments,
    report: &mut Report,
) -> Schemas {
    let roles: BTreeSet<&str> = config
        .users
        .values()
        .filter_map(|user| user.server_user.as_deref())
        .collect();
    let asking = servers.names().map(|name| async {
        let mut client = servers.get(name).await?;
        let failed = |doing| CatalogError::at(name, servers, doing);
        let mut strangers = Vec::new();
        for role in &roles {
            let sql = "SELECT count(*) > 0, coalesce(bool_or(pg_catalog.pg_has_role(current_user, oid, 'MEMBER')), false)
                       FROM pg_catalog.pg_roles WHERE rolname = $1";
            let row = client.query_one(sql, &[role]).await.map_err(failed("ask for roles"))?;
            let exists: bool = row.try_get(0).map_err(failed("ask for roles"))?;
            let member: bool = row.try_get(1).map_err(failed("ask for roles"))?;
            if !member {
                strangers.push(((*role).to_owned(), exists));
            }
        }
        let history = migrations(&**client).await.map_err(failed("read keyway.migrations"))?;
        let schema = read_settled(&mut client).await.map_err(failed("read the schema"))?;
        Ok::<_, CatalogError>((schema, history, strangers))
    });
    let answers = join_all(asking).await;
    let mut schemas = Schemas::new();
    for (name, answer) in servers.names().zip(answers) {
        let place = format!("shard {name}");
        let (schema, history, strangers) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                report.add(Severity::Error, place, error.to_string());
                continue;
            }
        };
        report.servers_reached += 1;
        let login = &config.shards[name].primary.user;
        for (role, exists) in strangers {
            if exists {
                report.add_with_hint(
                    Severity::Error,
                    place.clone(),
                    format!("the control login {login:?} is not a member of the role {role:?}, so it could not finish that role's prepared transactions"),
                    format!("GRANT {} TO {}", quoted(&role), quoted(login)),
                );
            } else {
                report.add(
                    Severity::Error,
                    place.clone(),
                    format!("the role {role:?} of [users] does not exist"),
                );
            }
        }
        check_server(&place, &schema, report);
        if let Some(id) = assignments.shard_ids.get(name) {
            assignments.histories.insert(*id, history);
            schemas.insert(*id, schema);
        }
    }
    schemas
}

fn quoted(identifier: &str) -> String {
    crate::catalog::agree::quote(identifier)
}

fn check_server(place: &str, schema: &Schema, report: &mut Report) {
    if schema.encoding != "UTF8" {
        report.add(
            Severity::Error,
            place,
            format!("the database's encoding is {}, not UTF8", schema.encoding),
        );
    }
    if schema.version < VERSION_MIN {
        let (found, least) = (schema.version / 10_000, VERSION_MIN / 10_000);
        report.add(
            Severity::Error,
            place,
            format!("PostgreSQL {found} is too old; {least} is the least"),
        );
    }
    if schema.in_recovery {
        report.add(
            Severity::Error,
            place,
            "the primary follows another server: it is a standby",
        );
    }
}

async fn ask_replicas(config: &Config, servers: &Servers, report: &mut Report) {
    for (name, shard) in &config.shards {
        for replica in &shard.replicas {
            let place = format!("shard {name}, replica {replica}");
            match servers.is_in_recovery(name, replica).await {
                Ok(true) => report.servers_reached += 1,
                Ok(false) => {
                    report.servers_reached += 1;
                    report.add(
                        Severity::Error,
                        place,
                        "follows no other server: it is a primary of its own",
                    );
                }
                Err(error) => report.add(Severity::Error, place, error.to_string()),
            }
        }
    }
}

/// `pool.size` connections for each role on each shard must fit into what a server takes.
fn check_connections(
    config: &Config,
    assignments: &Assignments,
    schemas: &Schemas,
    report: &mut Report,
) {
    let mut wanted: BTreeMap<(&str, u16), (i64, i64, Vec<&str>)> = BTreeMap::new();
    for (name, shard) in &config.shards {
        let Some(schema) = assignments
            .shard_ids
            .get(name)
            .and_then(|id| schemas.get(id))
        else {
            continue;
        };
        let roles: BTreeSet<&str> = config
            .users
            .values()
            .map(|user| user.server_user.as_deref().unwrap_or(&shard.primary.user))
            .collect();
        let size = i64::try_from(config.pool.size.saturating_mul(roles.len())).unwrap_or(i64::MAX);
        let server = wanted
            .entry((&shard.primary.host, shard.primary.port))
            .or_insert((0, schema.connections_max, vec![]));
        server.0 = server
            .0
            .saturating_add(size)
            .saturating_add(CONTROL_CONNECTIONS);
        server.2.push(name);
    }
    for ((host, port), (wanted, allowed, shards)) in wanted {
        if wanted > allowed {
            report.add_with_hint(
                Severity::Error,
                format!("server {host}:{port}"),
                format!(
                    "pool.size = {} may open {wanted} connections for shards {}, but the server takes {allowed}",
                    config.pool.size,
                    shards.join(", ")
                ),
                "lower pool.size or raise max_connections",
            );
        }
    }
}

/// Shards that nothing is sent to, since they lack a migration. One that does not answer is reported as such.
fn check_versions(topology: &Topology, report: &mut Report) {
    for (id, what) in &topology.behind {
        let Some(shard) = topology.shards.get(usize::from(id.0)) else {
            continue;
        };
        report.add_with_hint(
            Severity::Error,
            format!("shard {}", shard.name),
            what.clone(),
            "nothing is sent to it; run `keyway migrate up`",
        );
    }
}

/// What the shards of each sharded keyspace say, against each other and against the rules.
pub(super) fn compare(
    config: &Config,
    topology: &Topology,
    schemas: &Schemas,
    report: &mut Report,
) {
    for keyspace in &topology.keyspaces {
        let Some(database) = database_of(topology, keyspace) else {
            let place = format!("keyspaces.{}", keyspace.name);
            report.add(Severity::Warning, place, "no database has this keyspace");
            continue;
        };
        let known: Vec<(&str, u16, &Schema)> = keyspace
            .shards
            .iter()
            .filter_map(|id| topology.shards.get(usize::from(id.0)))
            .filter_map(|shard| {
                Some((
                    shard.name.as_str(),
                    shard.stable_id,
                    schemas.get(&shard.stable_id)?,
                ))
            })
            .collect();
        let view = KeyspaceView {
            config,
            topology,
            keyspace,
            database,
            known,
        };
        view.compare(report);
    }
    for database in topology.databases.values() {
        for (table, reason) in &database.refused {
            let place = format!("database {}, table {table}", database.name);
            report.add(Severity::Error, place, format!("is refused: {reason}"));
        }
    }
}

fn database_of<'t>(topology: &'t Topology, keyspace: &Keyspace) -> Option<&'t Database> {
    let index = topology
        .keyspaces
        .iter()
        .position(|other| other.name == keyspace.name)?;
    let mut with: Vec<&Database> = topology
        .databases
        .values()
        .map(AsRef::as_ref)
        .filter(|database| {
            database
                .keyspaces
                .iter()
                .any(|id| usize::from(id.0) == index)
        })
        .collect();
    with.sort_by(|a, b| a.name.cmp(&b.name));
    with.first().copied()
}

/// One keyspace and what its shards say.
struct KeyspaceView<'a> {
    config: &'a Config,
    topology: &'a Topology,
    keyspace: &'a Keyspace,
    database: &'a Database,
    /// Name, stable id and schema of each shard that answered.
    known: Vec<(&'a str, u16, &'a Schema)>,
}

impl KeyspaceView<'_> {
    fn place(&self, table: &TableName) -> String {
        format!("keyspace {}, table {table}", self.keyspace.name)
    }

    fn compare(&self, report: &mut Report) {
        let names: BTreeSet<&TableName> = self
            .known
            .iter()
            .flat_map(|(_, _, schema)| &schema.relations)
            .map(|relation| &relation.name)
            .collect();
        report.tables += names.len();
        self.check_listed(&names, report);
        if self.keyspace.kind == KeyspaceKind::Unsharded {
            return;
        }
        for name in names {
            if self.is_ours(name) {
                self.check_table(name, report);
            } else {
                self.check_unlisted(name, report);
            }
        }
        self.check_databases(report);
        self.check_routines(report);
        self.check_types(report);
    }

    fn is_ours(&self, name: &TableName) -> bool {
        self.database.tables.get(name).is_some_and(|table| {
            self.topology
                .keyspaces
                .get(usize::from(table.keyspace.0))
                .is_some_and(|k| k.name == self.keyspace.name)
        })
    }

    /// Tables of the configuration that no shard has.
    fn check_listed(&self, names: &BTreeSet<&TableName>, report: &mut Report) {
        let listed = self
            .config
            .keyspaces
            .get(&self.keyspace.name)
            .map(|keyspace| &keyspace.tables);
        for (name, table) in listed.into_iter().flatten() {
            if !self.known.is_empty() && !names.contains(name) {
                report.add(
                    Severity::Note,
                    self.place(name),
                    "is listed but exists on no shard yet",
                );
            }
            let relation = self
                .known
                .iter()
                .find_map(|(_, _, schema)| schema.relation(name));
            for trusted in &table.trust {
                let fits = relation.is_none_or(|relation| {
                    relation
                        .constraints
                        .iter()
                        .any(|c| c.name == *trusted || c.columns.join(",") == *trusted)
                });
                if !fits {
                    report.add(
                        Severity::Warning,
                        self.place(name),
                        format!("trust names {trusted:?}, which is no constraint of it"),
                    );
                }
            }
        }
    }

    fn check_unlisted(&self, name: &TableName, report: &mut Report) {
        let relation = self
            .known
            .iter()
            .find_map(|(_, _, schema)| schema.relation(name));
        // A shard may serve an unsharded keyspace too, and its tables are that one's.
        let elsewhere = self.database.tables.contains_key(name);
        if elsewhere || relation.is_none_or(|relation| relation.kind == 'v') {
            return;
        }
        if self
            .known
            .iter()
            .any(|(_, _, schema)| self.is_partition(schema, name))
        {
            let what = "is a partition or child that not all shards have; statements that name it are refused";
            report.add(Severity::Note, self.place(name), what);
            return;
        }
        report.add_with_hint(
            Severity::Warning,
            self.place(name),
            "exists on the shards but no keyspace lists it; statements that use it are refused",
            format!(
                "add it to [keyspaces.{}.tables] with key = \"column\" or reference = true",
                self.keyspace.name
            ),
        );
    }

    /// Is it a partition or child of one of the keyspace's tables?
    fn is_partition(&self, schema: &Schema, name: &TableName) -> bool {
        let relation = schema.relation(name);
        relation.is_some_and(|relation| {
            let mut parents = relation.parents.iter();
            parents.any(|parent| self.is_ours(parent) || self.is_partition(schema, parent))
        })
    }

    fn check_table(&self, name: &TableName, report: &mut Report) {
        let place = self.place(name);
        let Some((first_shard, _, first)) = self
            .known
            .iter()
            .find_map(|(shard, id, schema)| Some((shard, id, schema.relation(name)?)))
        else {
            return;
        };
        for (shard, _, schema) in &self.known {
            match schema.relation(name) {
                // Shards may have other partitions: of numbers, each has those that its rows need.
                None if !first.parents.is_empty() => report.add(
                    Severity::Note,
                    place.clone(),
                    format!(
                        "is a partition or child that shard {first_shard} has and {shard} has not"
                    ),
                ),
                None => report.add(
                    Severity::Error,
                    place.clone(),
                    format!("exists on shard {first_shard} but not on {shard}"),
                ),
                Some(relation) => {
                    for difference in differences(first, relation) {
                        report.add(
                            Severity::Error,
                            place.clone(),
                            format!("shards {first_shard} and {shard} differ: {difference}"),
                        );
                    }
                }
            }
        }
        let Some(table) = self.database.tables.get(name) else {
            return;
        };
        for hazard in &table.hazards {
            let hint = if hazard.contains("[functions]") {
                "declare the function in [functions] or drop the trigger; until then writes to the table are refused"
            } else {
                "while this is so, writes to the table are refused"
            };
            report.add_with_hint(Severity::Error, place.clone(), hazard.clone(), hint);
        }
        for hazard in &table.policy_hazards {
            report.add_with_hint(
                Severity::Error,
                place.clone(),
                hazard.clone(),
                "while this is so, statements that use the table are refused",
            );
        }
        if first.kind == 'v' {
            return;
        }
        let unique = |column: &str| {
            table
                .columns
                .iter()
                .any(|found| found.name == column && found.unique_by_construction)
        };
        let placement_of = |other: &TableName| {
            self.is_ours(other)
                .then(|| self.database.tables.get(other))
                .flatten()
                .map(|table| table.placement.clone())
        };
        for constraint in &first.constraints {
            if let Some(why) = constraint_beyond_one_shard(
                &table.placement,
                constraint,
                &table.trust,
                unique,
                placement_of,
            ) {
                let hint = match constraint.kind {
                    ConstraintKind::Foreign { .. } => "refer by the sharding key, make the other table a reference table, or drop the constraint".to_owned(),
                    _ => format!("add the sharding key to it, or say trust = [{:?}] for {name} if its values are unique anyway; until then the table takes no new rows", constraint.name),
                };
                report.add_with_hint(
                    Severity::Error,
                    place.clone(),
                    format!(
                        "constraint {:?}, {}: {why}",
                        constraint.name, constraint.definition
                    ),
                    hint,
                );
            }
        }
        if let Placement::Sharded { .. } = table.placement {
            self.check_sequences(name, report);
        }
    }

    /// Sequences of a sharded table that hand out the same numbers on several shards.
    fn check_sequences(&self, name: &TableName, report: &mut Report) {
        let mut repeating: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (shard, id, schema) in &self.known {
            for column in schema
                .relation(name)
                .into_iter()
                .flat_map(|relation| &relation.columns)
            {
                let Some(sequence) = &column.sequence else {
                    continue;
                };
                if has_own_range(column, *id) {
                    continue;
                }
                let remedy = match sequence_range(*id, column.base_oid) {
                    // The first shard's range starts where every sequence does: it goes on counting.
                    Some((1, high)) => format!(
                        "on {shard}: ALTER SEQUENCE {} MINVALUE 1 MAXVALUE {high} NO CYCLE",
                        sequence.name
                    ),
                    Some((low, high)) => format!(
                        "on {shard}: ALTER SEQUENCE {} MINVALUE {low} MAXVALUE {high} START {low} RESTART {low} NO CYCLE",
                        sequence.name
                    ),
                    None => format!(
                        "on {shard}: make {} an integer or bigint first",
                        column.name
                    ),
                };
                repeating.entry(&column.name).or_default().push(remedy);
            }
        }
        for (column, remedies) in repeating {
            report.add_with_hint(
                Severity::Warning,
                self.place(name),
                format!(
                    "the sequence of column {column:?} gives the same numbers on several shards"
                ),
                remedies.join("; "),
            );
        }
    }

    fn check_databases(&self, report: &mut Report) {
        let Some((first_shard, _, first)) = self.known.first() else {
            return;
        };
        for (shard, _, schema) in &self.known[1..] {
            let place = format!("keyspace {}", self.keyspace.name);
            if schema.collation != first.collation {
                report.add(
                    Severity::Error,
                    place.clone(),
                    format!(
                        "the default collation is {} on shard {first_shard}, {} on {shard}",
                        first.collation, schema.collation
                    ),
                );
            }
            if schema.version / 10_000 != first.version / 10_000 {
                report.add(
                    Severity::Warning,
                    place,
                    format!(
                        "shard {first_shard} runs PostgreSQL {}, {shard} runs {}",
                        first.version / 10_000,
                        schema.version / 10_000
                    ),
                );
            }
        }
    }

    fn check_routines(&self, report: &mut Report) {
        let Some((first_shard, _, first)) = self.known.first() else {
            return;
        };
        for (shard, _, schema) in &self.known[1..] {
            let here: HashMap<_, _> = schema
                .routines
                .iter()
                .map(|r| ((&r.name, &r.arguments), r))
                .collect();
            let there: HashMap<_, _> = first
                .routines
                .iter()
                .map(|r| ((&r.name, &r.arguments), r))
                .collect();
            let mut keys: Vec<_> = here.keys().chain(there.keys()).copied().collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let what = match (there.get(&key), here.get(&key)) {
                    (Some(_), None) => format!("exists on shard {first_shard} but not on {shard}"),
                    (None, Some(_)) => format!("exists on shard {shard} but not on {first_shard}"),
                    (Some(a), Some(b)) if a != b => {
                        format!("shards {first_shard} and {shard} differ in its definition")
                    }
                    _ => continue,
                };
                report.add(
                    Severity::Error,
                    format!(
                        "keyspace {}, function {}({})",
                        self.keyspace.name, key.0, key.1
                    ),
                    what,
                );
            }
        }
    }

    fn check_types(&self, report: &mut Report) {
        let Some((first_shard, _, first)) = self.known.first() else {
            return;
        };
        let first_enums: BTreeMap<_, _> = first
            .enums
            .iter()
            .map(|(name, labels)| (name, labels))
            .collect();
        for (shard, _, schema) in &self.known[1..] {
            let enums: BTreeMap<_, _> = schema
                .enums
                .iter()
                .map(|(name, labels)| (name, labels))
                .collect();
            for name in first_enums
                .keys()
                .chain(enums.keys())
                .collect::<BTreeSet<_>>()
            {
                if first_enums.get(name) != enums.get(name) {
                    report.add(
                        Severity::Error,
                        format!("keyspace {}, type {name}", self.keyspace.name),
                        format!(
                            "shards {first_shard} and {shard} differ in its labels or their order"
                        ),
                    );
                }
            }
        }
    }
}

/// How a table differs between two shards.
fn differences(first: &Relation, second: &Relation) -> Vec<String> {
    let mut found = Vec::new();
    if first.kind != second.kind {
        found.push(format!(
            "one is a {}, the other a {}",
            kind_name(first.kind),
            kind_name(second.kind)
        ));
        return found;
    }
    let columns = |relation: &Relation| {
        relation
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect::<Vec<_>>()
    };
    if columns(first) == columns(second) {
        for (a, b) in first.columns.iter().zip(&second.columns) {
            let facts = [
                ("type", a.type_name != b.type_name),
                ("NOT NULL", a.not_null != b.not_null),
                ("default", a.default != b.default),
                ("generation", a.generated != b.generated),
                (
                    "collation",
                    a.collation_is_c != b.collation_is_c || a.deterministic != b.deterministic,
                ),
            ];
            for (what, _) in facts.iter().filter(|(_, differs)| *differs) {
                found.push(format!("the {what} of column {:?}", a.name));
            }
        }
    } else {
        found.push(format!(
            "columns ({}) and ({})",
            columns(first).join(", "),
            columns(second).join(", ")
        ));
    }
    let constraints = |relation: &Relation| {
        relation
            .constraints
            .iter()
            .map(|c| (c.name.clone(), c.definition.clone()))
            .collect::<BTreeSet<_>>()
    };
    for (name, definition) in constraints(first).symmetric_difference(&constraints(second)) {
        found.push(format!(
            "constraint or unique index {name:?}, {definition}, is on one only"
        ));
    }
    let triggers = |relation: &Relation| {
        relation
            .triggers
            .iter()
            .map(|t| t.definition.clone())
            .collect::<BTreeSet<_>>()
    };
    for definition in triggers(first).symmetric_difference(&triggers(second)) {
        found.push(format!("trigger {definition} is on one only"));
    }
    if first.rules != second.rules {
        found.push("rules".into());
    }
    if first.view != second.view {
        found.push("the view's definition".into());
    }
    if first.row_security != second.row_security {
        found.push("row-level security is on for one only".into());
    }
    if first.policies != second.policies {
        found.push("policies of row-level security".into());
    }
    if first.parents != second.parents {
        found.push("what it is a partition of".into());
    }
    found
}

fn kind_name(kind: char) -> &'static str {
    match kind {
        'p' => "partitioned table",
        'v' => "view",
        'm' => "materialized view",
        'f' => "foreign table",
        _ => "table",
    }
}

/// Lets tables be used again that are equal on all shards of their keyspace.
async fn lift_refusals(
    servers: &Servers,
    catalog: &str,
    topology: &Topology,
    schemas: &Schemas,
    report: &mut Report,
) {
    let mut equal = Vec::new();
    for database in topology.databases.values() {
        for table in database.refused.keys() {
            let homes: Vec<&Keyspace> = match database.tables.get(table) {
                Some(found) => topology
                    .keyspaces
                    .get(usize::from(found.keyspace.0))
                    .into_iter()
                    .map(AsRef::as_ref)
                    .collect(),
                None => database
                    .keyspaces
                    .iter()
                    .filter_map(|id| topology.keyspaces.get(usize::from(id.0)))
                    .map(AsRef::as_ref)
                    .collect(),
            };
            if homes
                .iter()
                .all(|keyspace| is_equal_everywhere(topology, schemas, keyspace, table))
            {
                equal.push((database.name.clone(), table.clone()));
            }
        }
    }
    if equal.is_empty() {
        return;
    }
    let lifting = async {
        let holder = servers.get(catalog).await?;
        let failed = CatalogError::at(catalog, servers, "lift refusals");
        for (database, table) in &equal {
            let sql =
                "DELETE FROM keyway.refused WHERE database = $1 AND schema = $2 AND name = $3";
            holder
                .execute(sql, &[database, &table.schema, &table.name])
                .await
                .map_err(&failed)?;
        }
        holder
            .query(crate::catalog::RAISE_EPOCH, &[])
            .await
            .map_err(&failed)?;
        Ok::<_, CatalogError>(())
    };
    if let Err(error) = lifting.await {
        report.add(Severity::Error, "catalog", error.to_string());
        return;
    }
    for (database, table) in equal {
        let place = format!("database {database}, table {table}");
        report
            .findings
            .retain(|finding| finding.place != place || !finding.what.starts_with("is refused"));
        report.lifted.push(format!("{database}.{table}"));
    }
}

/// On every shard, and alike; or on none.
fn is_equal_everywhere(
    topology: &Topology,
    schemas: &Schemas,
    keyspace: &Keyspace,
    table: &TableName,
) -> bool {
    let mut found = Vec::new();
    for id in &keyspace.shards {
        let Some(shard) = topology.shards.get(usize::from(id.0)) else {
            return false;
        };
        let Some(schema) = schemas.get(&shard.stable_id) else {
            return false;
        };
        found.push(schema.relation(table));
    }
    found.windows(2).all(|pair| match (pair[0], pair[1]) {
        (None, None) => true,
        (Some(a), Some(b)) => differences(a, b).is_empty(),
        _ => false,
    })
}
