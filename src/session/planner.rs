//! From a statement's text to its plan: recipe from the cache, or made; then this execution's values.

use crate::backend::settings::SettingValue;
use crate::cache::plans::PlanKey;
use crate::route::changed::Changed;
use crate::route::choose::context::Context;
use crate::route::choose::hint::{RouteHint, hinted};
use crate::route::choose::{recipe, unparsed};
use crate::route::error::RouteError;
use crate::route::keep::{NotKept, Spoils};
use crate::route::key::{NoParams, Param, Params, Values};
use crate::route::plan::{Access, Pin, Plan, PlanKind, ShardSet};
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::commands::check_setting;
use crate::session::error::SessionError;
use crate::session::kept::parse_ttl;
use crate::session::portal::{Place, Portal};
use crate::session::prepared::{MadeRecipe, Prepared};
use crate::session::simple::in_its_place;
use crate::statement::command::{Command, command};
use crate::statement::parse::parse;
use crate::statement::scan::{Hints, Scanned, Verb, literal_text, scan, shape};
use crate::statement::tree::{Body, Distinct, Expr, Item, Statement};
use crate::topology::ShardId;
use crate::wire::error::{ClientError, ErrorFields, SqlState};
use crate::wire::frontend::{Bind, Format};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// A Bind's parameters with the types its statement declared.
pub(super) struct Bound<'a, 'b> {
    pub(super) types: &'a [u32],
    pub(super) bind: &'a Bind<'b>,
}

impl Params for Bound<'_, '_> {
    fn get(&self, number: u16) -> Option<Param<'_>> {
        let index = usize::from(number).checked_sub(1)?;
        let bytes = *self.bind.parameters.get(index)?;
        Some(Param {
            oid: self.types.get(index).copied().unwrap_or(0),
            binary: self.bind.parameter_formats.get(index) == Format::Binary,
            bytes,
        })
    }
}

impl Session {
    /// The plan of a statement of the simple protocol.
    pub(super) fn plan_simple(
        &mut self,
        text: &str,
        scanned: &Scanned,
    ) -> Result<Plan, SessionError> {
        if let Some(plan) = self.plan_of_session(&text[scanned.range.clone()], scanned)? {
            return Ok(plan);
        }
        let recipe = self.recipe(text, scanned)?;
        self.fill(&recipe, text, scanned, &NoParams)
    }

    /// The plan of a bound statement.
    pub(super) fn plan_bound(
        &mut self,
        prepared: &Prepared,
        scanned: &Scanned,
        bind: &Bind<'_>,
    ) -> Result<Plan, SessionError> {
        if let Some(plan) = self.plan_of_session(&prepared.text[scanned.range.clone()], scanned)? {
            return Ok(plan);
        }
        let recipe = self.recipe_of(prepared, scanned)?;
        self.fill(
            &recipe,
            &prepared.text,
            scanned,
            &Bound {
                types: prepared.routing_types(),
                bind,
            },
        )
    }

    /// Shards whose servers can parse and describe a statement.
    pub(super) fn shards_that_parse(
        &mut self,
        prepared: &Prepared,
        scanned: &Scanned,
    ) -> Result<ShardSet, SessionError> {
        if let Some(plan) = self.plan_of_session(&prepared.text[scanned.range.clone()], scanned)? {
            return Ok(plan.shards);
        }
        let recipe = self.recipe_of(prepared, scanned)?;
        let shards = recipe.shards();
        if shards.is_empty() {
            // No shard has all its tables: the refusal is the same whatever the parameters.
            self.fill(&recipe, &prepared.text, scanned, &NoParams)?;
            Ok([self.home()?].into_iter().collect())
        } else {
            Ok(shards)
        }
    }

    pub(super) fn fill(
        &mut self,
        recipe: &Recipe,
        text: &str,
        scanned: &Scanned,
        params: &dyn Params,
    ) -> Result<Plan, SessionError> {
        self.pending_sets.clear();
        let values = Values {
            text,
            statement: scanned,
            params,
        };
        let mut plan = match recipe.plan(&values, &self.topology) {
            Ok(plan) => plan,
            // A negative LIMIT or OFFSET fails when the statement runs, whatever the rows: a shard says so in its time.
            Err(RouteError::Window(_)) if !recipe.shards().is_empty() => {
                self.fixed(PlanKind::Any, recipe.shards(), Access::Read, None)
            }
            Err(error) => return Err(SessionError::from_client_error(&error)),
        };
        if self.worker.results.is_some() {
            plan.spoils = recipe.spoils(&values, &self.topology, self.temporaries.names());
            plan.keeps = self.keep_of(recipe, &values);
        }
        plan.of_temporaries = recipe.changes.are_of(self.temporaries.names());
        self.temporaries.note(recipe);
        self.refuse_behind_change(text, scanned, &plan)?;
        match plan.pin {
            _ if self.worker_keeps => {}
            Some(Pin::SequenceValue) => self.place_sequence_value(scanned, &mut plan)?,
            Some(Pin::SessionFunction) => {
                return Err(SessionError::unsupported(
                    "setseed() is not supported with transaction pooling",
                    "The random numbers behind it belong to a server's session, which other clients use too.",
                    "Set pool.mode = \"session\".",
                ));
            }
            _ => {}
        }
        if recipe.set_config {
            if !Self::is_for_one(&plan) {
                return Err(SessionError::unsupported(
                    "set_config() over several shards is not supported",
                    "Each shard would set it for itself.",
                    "Call it alone in the select list, or use SET.",
                ));
            }
            let settings = set_configs(text, scanned, params);
            let settings = settings.ok_or_else(|| {
                SessionError::unsupported(
                    "set_config() is supported with constants and parameters only",
                    "Keyway must know the setting, to apply it on the servers that the session uses next.",
                    "Call it alone in the select list with plain values and no LIMIT, or use SET.",
                )
            })?;
            for set in &settings {
                check_setting(&set.name, Some(&SettingValue::Text(set.value.clone())))?;
            }
            self.pending_sets = settings;
        }
        Ok(plan)
    }

    /// The recipe of a prepared statement: its own if it still holds, else the cache's.
    pub(super) fn recipe_of(
        &mut self,
        prepared: &Prepared,
        scanned: &Scanned,
    ) -> Result<Rc<Recipe>, SessionError> {
        let settings = self.reading_key(scanned);
        if let Some(made) = prepared.recipe.borrow().as_ref()
            && made.epoch == self.topology.epoch
            && made.settings == settings
        {
            self.worker.metrics.plan_cache_hits.raise();
            return Ok(Rc::clone(&made.recipe));
        }
        let recipe = self.recipe(&prepared.text, scanned)?;
        *prepared.recipe.borrow_mut() = Some(MadeRecipe {
            epoch: self.topology.epoch,
            settings,
            recipe: Rc::clone(&recipe),
        });
        Ok(recipe)
    }

    /// Settings and hints that change what a text means, as one number.
    fn reading_key(&self, scanned: &Scanned) -> u64 {
        let key = self.effective().parse_key();
        let hint = self.hint_in_force();
        if scanned.hints.is_none() && *hint == super::SessionHint::default() {
            return key;
        }
        let mut hasher = DefaultHasher::new();
        (key, &hint.key, &hint.shard).hash(&mut hasher);
        if let Some(hints) = &scanned.hints {
            (&hints.key, &hints.shard, &hints.unknown).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(super) fn hint_in_force(&self) -> &super::SessionHint {
        self.block
            .as_ref()
            .and_then(|b| b.local_hint.as_ref())
            .unwrap_or(&self.hint)
    }

    /// The recipe for a statement's shape, if it is in the cache.
    pub(super) fn known_recipe(&self, scanned: &Scanned) -> Option<Rc<Recipe>> {
        let key = PlanKey {
            fingerprint: scanned.fingerprint,
            database: self.database_key,
            settings: self.reading_key(scanned),
        };
        let mut plans = self.worker.plans.borrow_mut();
        plans.get(self.topology.epoch, &key)
    }

    /// The recipe for a statement's shape.
    pub(super) fn recipe(&self, text: &str, scanned: &Scanned) -> Result<Rc<Recipe>, SessionError> {
        let key = PlanKey {
            fingerprint: scanned.fingerprint,
            database: self.database_key,
            settings: self.reading_key(scanned),
        };
        if let Some(found) = self
            .worker
            .plans
            .borrow_mut()
            .get(self.topology.epoch, &key)
        {
            self.worker.metrics.plan_cache_hits.raise();
            return Ok(found);
        }
        self.worker.metrics.plan_cache_misses.raise();
        let made = Rc::new(self.make_recipe(text, scanned)?);
        let mut plans = self.worker.plans.borrow_mut();
        plans.insert(self.topology.epoch, key, Rc::clone(&made));
        let held = i64::try_from(plans.len()).unwrap_or(i64::MAX);
        self.worker.metrics.plan_cache_entries.set(held);
        drop(plans);
        Ok(made)
    }

    /// Parses a shape and decides where its statements go.
    pub(super) fn make_recipe(
        &self,
        text: &str,
        scanned: &Scanned,
    ) -> Result<Recipe, SessionError> {
        let (made, parsed) = self.decide(text, scanned)?;
        made.map_err(|error| {
            if parsed {
                SessionError::from_client_error(&error)
            } else {
                let own = in_its_place(text, scanned);
                SessionError::Unparsed(Box::new(error.fields()), own)
            }
        })
    }

    /// The recipe or the router's refusal, and whether the statement was understood.
    pub(super) fn decide(
        &self,
        text: &str,
        scanned: &Scanned,
    ) -> Result<(Result<Recipe, RouteError>, bool), SessionError> {
        let shape = shape(text, scanned);
        let search_path = self.search_path();
        let context = self.context(&search_path, &shape, scanned.verb);
        let tree = parse(&shape, scanned.verb);
        let made = match (self.hint_of(scanned)?, &tree) {
            (Some(hint), tree) => hinted(tree.as_ref().ok(), &context, hint),
            (None, Ok(tree)) => recipe(tree, &context),
            (None, Err(error)) => unparsed(&error.reason, &context),
        };
        Ok((made, tree.is_ok()))
    }

    fn context<'a>(&'a self, search_path: &'a [String], shape: &'a str, verb: Verb) -> Context<'a> {
        Context {
            topology: &self.topology,
            database: &self.database,
            search_path,
            verb,
            shape,
        }
    }

    /// What a change of the schema is to the transaction's later statements.
    pub(super) fn changed_by(&self, own: &str, plan: &Plan) -> Option<Changed> {
        let scanned = scan(own, self.scan_settings())
            .ok()
            .and_then(|statements| statements.into_iter().find(|s| s.verb != Verb::Empty));
        let (verb, shape) = match &scanned {
            Some(scanned) => (scanned.verb, shape(own, scanned)),
            None => (Verb::Ddl, own.into()),
        };
        let search_path = self.search_path();
        let context = self.context(&search_path, &shape, verb);
        // Where one shard has everything, plans do not depend on the schema.
        if plan.access != Access::Schema || context.only_shard().is_some() {
            return None;
        }
        let tree = parse(&shape, verb);
        Changed::by(tree.as_ref().ok(), plan.shards.clone(), &context)
    }

    /// The schema that statements are planned by is read again when the transaction has ended. Whoever names the shard
    /// does not ask for a plan, and another change is planned by what it says itself.
    pub(super) fn refuse_behind_change(
        &self,
        text: &str,
        scanned: &Scanned,
        plan: &Plan,
    ) -> Result<(), SessionError> {
        let Some(block) = self
            .block
            .as_ref()
            .filter(|block| !block.changed.is_empty())
        else {
            return Ok(());
        };
        if plan.access.is_of_each_shard() || self.hint_of(scanned)?.is_some() {
            return Ok(());
        }
        let shape = shape(text, scanned);
        let search_path = self.search_path();
        let context = self.context(&search_path, &shape, scanned.verb);
        match block.changed.iter().find(|c| c.concerns(plan, &context)) {
            None => Ok(()),
            Some(changed) => Err(SessionError::unsupported(
                "a statement that a schema change of the same transaction may concern is not supported",
                &format!(
                    "The transaction has changed {}, and its statements are planned by the schema as it was before.",
                    changed.shown()
                ),
                "COMMIT the change first; statements of one message or pipeline are one transaction.",
            )),
        }
    }

    /// Does a hint say where it goes?
    pub(super) fn is_hinted(&self, scanned: &Scanned) -> Result<bool, SessionError> {
        Ok(self.hint_of(scanned)?.is_some())
    }

    fn hint_of<'a>(&'a self, scanned: &'a Scanned) -> Result<Option<RouteHint<'a>>, SessionError> {
        if let Some(hints) = &scanned.hints {
            if let Some(unknown) = hints.unknown.first() {
                return Err(SessionError::Statement(Some(Box::new(
                    ErrorFields::error(
                        SqlState::SYNTAX_ERROR,
                        format!("unknown hint \"{unknown}\""),
                    )
                    .hint("Keyway knows /* keyway: key=… */, shard=…, cache=off and ttl=5s."),
                ))));
            }
            check_cache_hints(hints)?;
            if let Some(shard) = &hints.shard {
                return Ok(Some(RouteHint::Shard(shard)));
            }
            if let Some(key) = &hints.key {
                return Ok(Some(RouteHint::Key(key)));
            }
        }
        let session = self.hint_in_force();
        Ok(match (&session.shard, &session.key) {
            (Some(shard), _) => Some(RouteHint::Shard(shard)),
            (None, Some(key)) => Some(RouteHint::Key(key)),
            (None, None) => None,
        })
    }

    /// The schemas that an unqualified name is looked for in.
    pub(super) fn search_path(&self) -> Vec<String> {
        let text = match self.effective().get("search_path") {
            Some(SettingValue::Raw(text) | SettingValue::Text(text)) => text.as_str(),
            None => "",
        };
        split_identifiers(text)
            .into_iter()
            .filter_map(|name| {
                if name == "$user" {
                    self.own_schema()
                } else {
                    Some(name)
                }
            })
            .collect()
    }

    /// What `"$user"` stands for: the schema of the role's name, if it is there.
    fn own_schema(&self) -> Option<String> {
        let user = self.current_role()?;
        self.database
            .tables
            .keys()
            .any(|table| table.schema == user)
            .then_some(user)
    }

    /// The role that statements run as: SET ROLE's, SET SESSION AUTHORIZATION's, or the one the session began with.
    fn current_role(&self) -> Option<String> {
        let settings = self.effective();
        let set = |name: &str| match settings.get(name) {
            Some(SettingValue::Raw(text) | SettingValue::Text(text)) => {
                Some(role_named(text)).filter(|role| role != "none")
            }
            None => None,
        };
        set("role")
            .or_else(|| set("session_authorization"))
            .or_else(|| self.greeting.user.clone())
    }

    /// The shard for what belongs to no table.
    pub(super) fn home(&self) -> Result<ShardId, SessionError> {
        self.database.home.ok_or_else(|| {
            SessionError::refuse(
                SqlState::INTERNAL_ERROR,
                format!("database \"{}\" has no shard", self.database.name),
            )
        })
    }

    /// One of these shards, the transaction's if it is among them.
    pub(super) fn choose_among(&self, shards: &ShardSet) -> ShardId {
        let plan = self.fixed(PlanKind::Any, shards.clone(), Access::Read, None);
        self.choose(&plan)
    }

    pub(super) fn fixed(
        &self,
        kind: PlanKind,
        shards: ShardSet,
        access: Access,
        pin: Option<Pin>,
    ) -> Plan {
        Plan {
            kind,
            shards,
            access,
            text: None,
            finish: None,
            window: Default::default(),
            after: Vec::new(),
            pin,
            of_temporaries: false,
            outside_transaction: false,
            tables: Arc::from([]),
            epoch: self.topology.epoch,
            spoils: match access {
                Access::Read | Access::Lock => Spoils::Nothing,
                Access::Write | Access::Schema | Access::Upkeep => Spoils::Everything,
            },
            keeps: Err(NotKept::Utility),
        }
    }

    /// Statements whose place is the session's to know: cursors, LISTEN and kin, SHOW.
    fn plan_of_session(
        &mut self,
        own: &str,
        scanned: &Scanned,
    ) -> Result<Option<Plan>, SessionError> {
        let home = |session: &Self, pin| -> Result<Option<Plan>, SessionError> {
            let shards = [session.home()?].into_iter().collect();
            Ok(Some(session.fixed(
                PlanKind::Single,
                shards,
                Access::Lock,
                pin,
            )))
        };
        match scanned.verb {
            Verb::Show => {
                let shards = match self.hint_in_force().shard.as_deref() {
                    Some(name) => self
                        .topology
                        .shards
                        .iter()
                        .position(|s| s.name == name)
                        .into_iter()
                        .collect::<Vec<_>>(),
                    None => Vec::new(),
                };
                let shard = match shards.first().and_then(|index| u16::try_from(*index).ok()) {
                    Some(index) => ShardId(index),
                    None => self.transaction_shard().map_or_else(|| self.home(), Ok)?,
                };
                Ok(Some(self.fixed(
                    PlanKind::Any,
                    [shard].into_iter().collect(),
                    Access::Read,
                    None,
                )))
            }
            Verb::Listen => home(self, Some(Pin::Listen)),
            Verb::Unlisten | Verb::Notify => home(self, None),
            Verb::Fetch | Verb::Move | Verb::Close => {
                let Ok(read) = command(own, scanned.verb, self.scan_settings()) else {
                    return home(self, None);
                };
                let name = match &read {
                    Command::Fetch { cursor, .. } | Command::Move { cursor, .. } => cursor.as_str(),
                    Command::Close(Some(name)) => name.as_str(),
                    _ => return home(self, None),
                };
                let shard = match self.names.portal(name) {
                    Some(Portal {
                        place: Place::Server(shard),
                        ..
                    }) => *shard,
                    _ => self.transaction_shard().map_or_else(|| self.home(), Ok)?,
                };
                Ok(Some(self.fixed(
                    PlanKind::Single,
                    [shard].into_iter().collect(),
                    Access::Lock,
                    None,
                )))
            }
            _ => Ok(None),
        }
    }

    /// A shard that the transaction has used.
    pub(super) fn transaction_shard(&self) -> Option<ShardId> {
        self.block
            .as_ref()?
            .participants
            .iter()
            .find(|p| p.lease.is_some())
            .map(|p| p.shard)
    }
}

/// `cache` and `ttl` have values that mean something.
fn check_cache_hints(hints: &Hints) -> Result<(), SessionError> {
    let wrong = |what: &str, wanted: &str| {
        let message = format!("the hint \"{what}\" has no such value");
        let fields = ErrorFields::error(SqlState::SYNTAX_ERROR, message).hint(wanted);
        SessionError::Statement(Some(Box::new(fields)))
    };
    match hints.cache.as_deref() {
        None | Some("on" | "off") => {}
        Some(_) => return Err(wrong("cache", "Write cache=off or cache=on.")),
    }
    match &hints.ttl {
        Some(ttl) if parse_ttl(ttl).is_none() => {
            Err(wrong("ttl", "Write a time such as ttl=5s, a day at most."))
        }
        _ => Ok(()),
    }
}

/// A setting that a query's set_config() makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingSet {
    /// Its name.
    pub(super) name: String,
    /// Its value.
    pub(super) value: String,
    /// Until the transaction ends.
    pub(super) local: bool,
}

/// What the set_config() calls of a select list set; `None` when that is not certain before it runs.
fn set_configs(text: &str, scanned: &Scanned, params: &dyn Params) -> Option<Vec<PendingSet>> {
    let Ok(Statement::Query(query)) = parse(&shape(text, scanned), scanned.verb) else {
        return None;
    };
    let Body::Select(select) = &query.body else {
        return None;
    };
    if !select.from.is_empty() || select.filter.is_some() || !query.with.is_empty() {
        return None;
    }
    let value = |expr: &Expr| -> Option<String> {
        match expr {
            Expr::String(text) => Some(text.clone()),
            Expr::Bool(flag) => Some(flag.to_string()),
            Expr::Literal(index) => {
                let literal = scanned.literals.get(*index)?;
                Some(
                    literal_text(text, literal, scanned.settings)
                        .ok()?
                        .into_owned(),
                )
            }
            Expr::Param(number) => {
                let param = params.get(*number)?;
                let bytes = param.bytes?;
                // A boolean's binary form is one byte; text is the same in both formats.
                match (param.binary, bytes) {
                    (true, [0]) => Some("false".to_owned()),
                    (true, [1]) => Some("true".to_owned()),
                    _ => String::from_utf8(bytes.to_vec()).ok(),
                }
            }
            _ => None,
        }
    };
    let plain = select.distinct == Distinct::No
        && select.group_by.is_empty()
        && !select.grouping_sets
        && select.having.is_none()
        && select.windows.is_empty()
        && select.into.is_none()
        && query.limit.is_none()
        && query.offset.is_none();
    if !plain || !select.items.iter().all(is_one_value) {
        return None;
    }
    let mut sets = Vec::new();
    for item in &select.items {
        let Item::Expr {
            expr: Expr::Function(call),
            ..
        } = item
        else {
            continue;
        };
        if call.name.name != "set_config" {
            continue;
        }
        let [name, to, local] = call.args.as_slice() else {
            return None;
        };
        let local = match value(local)?.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "1" | "yes" => true,
            "f" | "false" | "off" | "0" | "no" => false,
            _ => return None,
        };
        sets.push(PendingSet {
            name: value(name)?.to_lowercase(),
            value: value(to)?,
            local,
        });
    }
    // A call somewhere else in the statement has not been seen.
    (!sets.is_empty()
        && shape(text, scanned)
            .to_ascii_lowercase()
            .matches("set_config")
            .count()
            == sets.len())
    .then_some(sets)
}

/// Functions that may stand beside set_config() in a select list: each has one value, so that the row is made.
const BESIDE_SET_CONFIG: [&str; 8] = [
    "set_config",
    "current_setting",
    "now",
    "current_user",
    "session_user",
    "current_schema",
    "pg_backend_pid",
    "version",
];

/// Does this entry of a select list never prevent the row? A function that returns no rows would.
fn is_one_value(item: &Item) -> bool {
    fn is_plain(expr: &Expr) -> bool {
        match expr {
            Expr::Literal(_)
            | Expr::Param(_)
            | Expr::Null
            | Expr::Bool(_)
            | Expr::Number(_)
            | Expr::String(_) => true,
            Expr::Cast { expr, .. } => is_plain(expr),
            Expr::Function(call) => {
                BESIDE_SET_CONFIG.contains(&call.name.name.as_str())
                    && call.args.iter().all(is_plain)
            }
            _ => false,
        }
    }
    matches!(item, Item::Expr { expr, .. } if is_plain(expr))
}

/// A comma separated list of identifiers, as search_path is written.
pub(super) fn split_identifiers(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut name = String::new();
                let mut chars = quoted.char_indices().peekable();
                let mut end = quoted.len();
                while let Some((at, c)) = chars.next() {
                    if c != '"' {
                        name.push(c);
                    } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                        name.push('"');
                    } else {
                        end = at + 1;
                        break;
                    }
                }
                (name, &quoted[end..])
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let bare = rest[..end].trim().trim_matches('\'');
                (bare.to_lowercase(), &rest[end..])
            }
        };
        names.push(name);
        rest = behind
            .trim_start()
            .strip_prefix(',')
            .unwrap_or("")
            .trim_start();
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The role that a setting's text names: plain, or as SQL quotes it.
pub(super) fn role_named(text: &str) -> String {
    let quoted = |mark: char| {
        let body = text.strip_prefix(mark)?.strip_suffix(mark)?;
        Some(body.replace(&String::from_iter([mark, mark]), &String::from(mark)))
    };
    quoted('"')
        .or_else(|| quoted('\''))
        .unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::split_identifiers;

    #[test]
    fn search_path_is_split_as_postgresql_does() {
        assert_eq!(split_identifiers(r#""$user", public"#), ["$user", "public"]);
        assert_eq!(
            split_identifiers(r#"A, "B c", "d""e" ,f"#),
            ["a", "B c", "d\"e", "f"]
        );
        assert_eq!(split_identifiers(""), Vec::<String>::new());
    }
}
