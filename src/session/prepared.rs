//! Prepared statements: the client's names, and the names servers know them by.

use crate::execute::relay::Described;
use crate::route::key::{ConstantType, type_named};
use crate::route::recipe::Recipe;
use crate::session::portal::{Hold, Place, Portal};
use crate::statement::command::Command;
use crate::statement::scan::Scanned;
use crate::topology::{KeyFamily, ShardId};
use crate::wire::types;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::{Rc, Weak};

/// A statement as servers of this worker know it: one text, one reading of it, one name.
#[derive(Debug)]
pub struct Canonical {
    /// Never used twice in a worker.
    pub id: u64,
    /// The name on servers; empty for an unnamed statement.
    pub name: String,
    parse_key: u64,
    text: Rc<str>,
    types: SmallVec<[u32; 4]>,
    /// A server has parsed it without an error.
    pub parsed_once: Cell<bool>,
}

/// The statements that sessions of one worker hold. Nothing is kept alive by it: what no session holds is forgotten.
#[derive(Debug, Default)]
pub struct StatementTable {
    next: Cell<u64>,
    known: RefCell<HashTable<Weak<Canonical>>>,
    sweep_at: Cell<usize>,
    hasher: RandomState,
}

impl StatementTable {
    fn id(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// A statement of its own, for the unnamed statement or a text whose reading depends on when it is parsed.
    pub fn unshared(&self, prepared: &Prepared, parse_key: u64, named: bool) -> Rc<Canonical> {
        let id = self.id();
        Rc::new(Canonical {
            id,
            name: if named {
                format!("kw_{id}")
            } else {
                String::new()
            },
            parse_key,
            text: Rc::clone(&prepared.text),
            types: prepared.types.clone(),
            parsed_once: Cell::new(false),
        })
    }

    /// The statement for this text, these types and this reading.
    pub fn shared(&self, prepared: &Prepared, parse_key: u64) -> Rc<Canonical> {
        let hash = self
            .hasher
            .hash_one((parse_key, &prepared.text, &prepared.types));
        let mut known = self.known.borrow_mut();
        let same = |weak: &Weak<Canonical>| {
            weak.upgrade().is_some_and(|c| {
                c.parse_key == parse_key && c.text == prepared.text && c.types == prepared.types
            })
        };
        if let Some(found) = known.find(hash, same).and_then(Weak::upgrade) {
            return found;
        }
        let rehash = |weak: &Weak<Canonical>| {
            weak.upgrade().map_or(0, |c| {
                self.hasher.hash_one((c.parse_key, &c.text, &c.types))
            })
        };
        if known.len() >= self.sweep_at.get() {
            known.retain(|weak| weak.strong_count() > 0);
            self.sweep_at.set((known.len() * 2).max(64));
        }
        let canonical = self.unshared(prepared, parse_key, true);
        known.insert_unique(hash, Rc::downgrade(&canonical), rehash);
        canonical
    }
}

/// What a prepared statement is.
#[derive(Debug)]
pub enum Body {
    /// No statement at all: only comments and white space.
    Empty,
    /// A statement about the session itself.
    Command(Command),
    /// A statement for the shards.
    Routed(Scanned),
    /// SQL's EXECUTE of another prepared statement.
    Execute(Execution),
}

/// An EXECUTE, and what it runs.
#[derive(Debug)]
pub struct Execution {
    /// The name of what it runs.
    pub name: String,
    /// Its arguments, as written.
    pub args: Vec<String>,
    /// `$n` that it names: PostgreSQL knows of none there.
    pub params: u16,
    /// What had the name when it was parsed, or when it was written for a server.
    pub target: Option<Rc<Prepared>>,
    /// The session's reading then.
    pub reading: u64,
    /// How many changes of the schema the transaction had made.
    pub changes: usize,
}

/// A recipe and what it was made for.
#[derive(Debug, Clone)]
pub struct MadeRecipe {
    /// The topology's epoch.
    pub epoch: u64,
    /// The settings' parse key.
    pub settings: u64,
    /// The recipe.
    pub recipe: Rc<Recipe>,
}

/// A name that a batch gave or took away before its message was reached.
#[derive(Debug)]
pub struct Said {
    /// The message's place in the batch.
    pub item: usize,
    /// The name; empty for the unnamed statement or portal.
    pub name: String,
    /// What had the name.
    pub before: Before,
}

/// What is remembered of the batch at hand.
#[derive(Debug, Default)]
pub struct BatchNotes {
    /// Names given and taken away by it.
    pub said: Vec<Said>,
    /// Servers that it pins, and which message does.
    pub pinned: Vec<(usize, ShardId)>,
    /// How many messages of it have been answered.
    pub items_done: usize,
    /// The portal whose BindComplete waits for a shard's word on the parameters.
    pub bind_owed: Option<String>,
}

/// What had a name before.
#[derive(Debug)]
pub enum Before {
    /// A statement's, taken by a Parse.
    Parsed(Option<Rc<Prepared>>),
    /// A statement's, taken by a Close.
    Closed(Option<Rc<Prepared>>),
    /// A portal's.
    Portal(Option<Portal>),
}

/// What is remembered of a statement that was planned before.
#[derive(Debug)]
pub struct Known {
    /// Its recipe.
    pub recipe: Rc<Recipe>,
    /// The unnamed prepared statement of this text, the same for all sessions that read texts alike.
    pub unnamed: RefCell<Option<Rc<Prepared>>>,
}

/// The parameter types of SQL's PREPARE.
#[derive(Debug)]
pub struct SqlTypes {
    /// As a PREPARE to a server writes them, with parentheses; empty when there are none.
    pub written: String,
    /// What each means for routing: a built-in type's OID, or [`OTHER_TYPE`].
    pub oids: SmallVec<[u32; 4]>,
}

impl SqlTypes {
    /// Of the types as the client wrote them.
    #[must_use]
    pub fn new(types: &[String]) -> Self {
        if types.is_empty() {
            return Self {
                written: String::new(),
                oids: SmallVec::new(),
            };
        }
        Self {
            written: format!(" ({})", types.join(", ")),
            oids: types.iter().map(|name| oid_named(name)).collect(),
        }
    }
}

/// No type's OID: a parameter of which nothing is known but that it is declared.
const OTHER_TYPE: u32 = u32::MAX;

/// A built-in type's OID, one for each family of keys.
fn oid_named(written: &str) -> u32 {
    if let Some(element) = written.trim().strip_suffix("[]") {
        return types::array_of(oid_named(element)).unwrap_or(OTHER_TYPE);
    }
    match type_named(&written.trim().to_ascii_lowercase()) {
        ConstantType::Context => types::UNSPECIFIED,
        ConstantType::Numeric => types::NUMERIC,
        ConstantType::Other => OTHER_TYPE,
        ConstantType::Family(family) => match family {
            KeyFamily::Int => types::INT8,
            KeyFamily::Text => types::TEXT,
            KeyFamily::Bpchar => types::BPCHAR,
            KeyFamily::Uuid => types::UUID,
            KeyFamily::Bool => types::BOOL,
            KeyFamily::Date => types::DATE,
            KeyFamily::Timestamp => types::TIMESTAMP,
            KeyFamily::TimestampTz => types::TIMESTAMPTZ,
            KeyFamily::Bytea => types::BYTEA,
        },
    }
}

/// A statement that a client prepared.
#[derive(Debug)]
pub struct Prepared {
    /// The client's text.
    pub text: Rc<str>,
    /// The parameter types the client declared; 0 leaves one to the server.
    pub types: SmallVec<[u32; 4]>,
    /// What it is.
    pub body: Body,
    /// It has a name (and is shared with other sessions of the worker).
    pub named: bool,
    /// It was prepared by SQL's PREPARE: the types as written, and the text of the statement itself.
    pub sql_types: Option<SqlTypes>,
    /// The name servers know it by, for the settings it was last used with.
    pub canonical: RefCell<Option<Rc<Canonical>>>,
    /// The recipe it was last planned with.
    pub recipe: RefCell<Option<MadeRecipe>>,
    /// What the client was told of its parameters and columns.
    pub told: Cell<Option<Told>>,
    /// Keyway wrote its text: where an error is in it says nothing to the client.
    pub rewritten: bool,
}

/// What a client was told of a statement, and how texts were read then.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The session's reading.
    pub reading: u64,
    /// The description.
    pub described: Described,
}

impl Prepared {
    /// The parameters' types as far as routing can know them; 0 where a server finds them.
    #[must_use]
    pub fn routing_types(&self) -> &[u32] {
        self.sql_types.as_ref().map_or(&self.types, |t| &t.oids)
    }

    /// The statement of SQL's EXECUTE that this runs on a server.
    #[must_use]
    pub fn executes(&self) -> Option<&Rc<Self>> {
        match &self.body {
            Body::Execute(execution) => execution.target.as_ref(),
            Body::Empty | Body::Command(_) | Body::Routed(_) => None,
        }
    }

    /// How many arguments an EXECUTE of it has.
    #[must_use]
    pub fn arguments(&self) -> usize {
        let named = match &self.body {
            Body::Routed(scanned) => usize::from(scanned.params),
            Body::Empty | Body::Command(_) | Body::Execute(_) => 0,
        };
        named.max(self.routing_types().len())
    }

    /// How many parameters a Bind must have. Of what is neither a query nor a plain change only a server knows whether
    /// it takes those that it names.
    #[must_use]
    pub fn parameters(&self) -> Option<usize> {
        let declared = self.routing_types().len();
        match &self.body {
            Body::Routed(scanned) if scanned.verb.is_plain() => {
                Some(declared.max(usize::from(scanned.params)))
            }
            Body::Routed(scanned) if scanned.params > 0 => None,
            Body::Routed(_) | Body::Command(_) | Body::Execute(_) | Body::Empty => Some(declared),
        }
    }

    /// The statement as servers know it under settings with this parse key.
    pub fn canonical(&self, table: &StatementTable, parse_key: u64) -> Rc<Canonical> {
        if let Some(known) = self.canonical.borrow().as_ref()
            && known.parse_key == parse_key
        {
            return Rc::clone(known);
        }
        let time_words = matches!(&self.body, Body::Routed(scanned) if scanned.time_words);
        let canonical = if self.named && !time_words && self.sql_types.is_none() {
            table.shared(self, parse_key)
        } else {
            table.unshared(self, parse_key, self.named)
        };
        *self.canonical.borrow_mut() = Some(Rc::clone(&canonical));
        canonical
    }
}

/// What a session has prepared and bound.
#[derive(Debug, Default)]
pub struct Names {
    /// Named statements.
    pub statements: HashMap<String, Rc<Prepared>>,
    /// The unnamed statement.
    pub unnamed: Option<Rc<Prepared>>,
    /// Named portals and cursors.
    pub portals: HashMap<String, Portal>,
    /// The unnamed portal, boxed because a session at rest has none.
    pub unnamed_portal: Option<Box<Portal>>,
}

impl Names {
    /// A statement by the client's name for it.
    #[must_use]
    pub fn statement(&self, name: &str) -> Option<&Rc<Prepared>> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.statements.get(name)
        }
    }

    /// A portal by its name.
    pub fn portal(&mut self, name: &str) -> Option<&mut Portal> {
        if name.is_empty() {
            self.unnamed_portal.as_deref_mut()
        } else {
            self.portals.get_mut(name)
        }
    }

    /// Puts a portal under its name; returns what had it.
    pub fn set_portal(&mut self, name: &str, portal: Portal) -> Option<Portal> {
        if name.is_empty() {
            let before = self.unnamed_portal.replace(Box::new(portal));
            before.map(|before| *before)
        } else {
            self.portals.insert(name.to_owned(), portal)
        }
    }

    /// The transaction is over: only cursors WITH HOLD, which stay with their server, are left.
    pub fn transaction_ended(&mut self) {
        self.unnamed_portal = None;
        self.portals.retain(|_, portal| {
            if portal.hold == Hold::Wanted {
                (portal.hold, portal.level) = (Hold::Kept, 0);
            }
            portal.hold == Hold::Kept
        });
    }

    /// Cursors WITH HOLD that are lost should the transaction not commit.
    #[must_use]
    pub fn held_if_committed(&self) -> Vec<String> {
        let wanted = |(name, portal): (&String, &Portal)| {
            (portal.hold == Hold::Wanted).then(|| name.clone())
        };
        self.portals.iter().filter_map(wanted).collect()
    }

    /// Closes named portals, those of them that there are.
    pub fn close_portals(&mut self, names: &[String]) {
        for name in names {
            self.portals.remove(name);
        }
    }

    /// ROLLBACK TO a savepoint with `level` others in front of it: what was made behind it has never been.
    pub fn rolled_back_to(&mut self, level: usize) {
        self.portals.retain(|_, portal| portal.level <= level);
        self.unnamed_portal = self.unnamed_portal.take().filter(|p| p.level <= level);
        for portal in self
            .portals
            .values_mut()
            .chain(self.unnamed_portal.as_deref_mut())
        {
            if let Place::Merging(gathering) = &portal.place
                && gathering.level > level
            {
                portal.place = Place::Undone(gathering.shards[0]);
            }
        }
    }

    /// RELEASE of a savepoint with `level` others in front of it: what was made behind it belongs to what is around it.
    pub fn released(&mut self, level: usize) {
        for portal in self
            .portals
            .values_mut()
            .chain(self.unnamed_portal.as_deref_mut())
        {
            portal.level = portal.level.min(level);
            if let Place::Merging(gathering) = &mut portal.place {
                gathering.level = gathering.level.min(level);
            }
        }
    }

    /// Closes a portal.
    pub fn close_portal(&mut self, name: &str) -> Option<Portal> {
        if name.is_empty() {
            self.unnamed_portal.take().map(|portal| *portal)
        } else {
            self.portals.remove(name)
        }
    }
}
