//! What a statement's function calls ask for: the home shard, the same server later, a write.

use crate::route::bind::Binder;
use crate::route::bind::calls::{Call, CallEffect};
use crate::route::builtin::{self, Effect};
use crate::route::choose::context::Context;
use crate::route::error::RouteError;
use crate::route::implied;
use crate::route::plan::{Access, Pin};
use crate::topology::{FunctionDeclaration, TableName};

/// What a statement's calls ask for together.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that may be asked for, none is a state of another"
)]
pub(in crate::route) struct CallTraits {
    pub(super) home: Home,
    /// A call whose value differs between shards.
    pub(super) unmergeable: Option<String>,
    pub(super) pin: Option<Pin>,
    pub(super) set_config: bool,
    /// Write: moves sequences, notifies or calls a declared function that writes. Lock: advisory locks.
    pub(super) access: Access,
    /// A function that may touch anything, and why.
    pub(super) undeclared: Option<(String, &'static str)>,
    /// Such a function may leave something behind in the server's session.
    pub(super) leaves: bool,
    /// A name that nothing is known of.
    pub(super) unknown: bool,
    /// A function that works on one shard's rows.
    pub(super) per_shard: Option<String>,
    pub(in crate::route) touches: Vec<(Vec<TableName>, Vec<TableName>)>,
    /// Such a function may write to it.
    pub(super) writes_per_shard: bool,
}

/// What calls ask of the home shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::route) enum Home {
    /// Nothing.
    Anywhere,
    /// Without tables the statement goes there.
    Preferred,
    /// They work there only (advisory locks, NOTIFY, catalog lookups).
    Needed,
}

impl CallTraits {
    fn of(calls: &[Call]) -> Self {
        let mut traits = Self {
            home: Home::Anywhere,
            unmergeable: None,
            pin: None,
            set_config: false,
            access: Access::Read,
            undeclared: None,
            leaves: false,
            unknown: false,
            per_shard: None,
            touches: Vec::new(),
            writes_per_shard: false,
        };
        for call in calls {
            traits.add(call);
        }
        traits
    }

    fn add(&mut self, call: &Call) {
        let mut differs = true;
        match &call.effect {
            CallEffect::BuiltIn(effect) => {
                differs = !matches!(effect, Effect::Pure | Effect::Stable)
                    && (*effect != Effect::Now || call.output);
                self.add_built_in(*effect, &call.name);
            }
            CallEffect::Unknown => {
                self.unknown = true;
                self.home = self.home.max(Home::Preferred);
            }
            CallEffect::Undeclared => {
                let why = "it is not IMMUTABLE, so it may read or write other tables";
                self.undeclared = Some((call.name.clone(), why));
                self.leaves = true;
            }
            CallEffect::Declared(FunctionDeclaration::PerShard, volatile) => {
                self.per_shard = Some(call.name.clone());
                if *volatile {
                    self.access = Access::Write;
                    self.writes_per_shard = true;
                }
            }
            CallEffect::Declared(FunctionDeclaration::Touches { reads, writes }, _) => {
                if !writes.is_empty() {
                    self.access = Access::Write;
                }
                self.home = self.home.max(Home::Preferred);
                self.touches.push((reads.clone(), writes.clone()));
            }
        }
        if differs {
            self.unmergeable.get_or_insert_with(|| call.name.clone());
        }
    }

    fn add_built_in(&mut self, effect: Effect, name: &str) {
        let lock = |access: Access| {
            if access == Access::Read {
                Access::Lock
            } else {
                access
            }
        };
        let home = match effect {
            Effect::Pure | Effect::Stable | Effect::Now | Effect::SetValue | Effect::Server => {
                Home::Anywhere
            }
            Effect::Volatile
            | Effect::NextValue
            | Effect::SequenceValue
            | Effect::SessionValue
            | Effect::SetConfig => Home::Preferred,
            Effect::Catalog
            | Effect::AdvisoryTransaction
            | Effect::AdvisorySession
            | Effect::Notify => Home::Needed,
        };
        self.home = self.home.max(home);
        match effect {
            Effect::Pure | Effect::Stable | Effect::Now | Effect::Catalog | Effect::Volatile => {}
            Effect::NextValue | Effect::Notify => self.access = Access::Write,
            Effect::SetValue => {
                self.undeclared = Some((
                    name.to_owned(),
                    "it would move the sequence of one shard only",
                ));
            }
            Effect::SequenceValue => self.pin = self.pin.or(Some(Pin::SequenceValue)),
            Effect::SessionValue => {
                let other = self.pin.filter(|pin| *pin != Pin::SequenceValue);
                self.pin = other.or(Some(Pin::SessionFunction));
            }
            Effect::AdvisoryTransaction => self.access = lock(self.access),
            Effect::AdvisorySession => {
                self.access = lock(self.access);
                self.pin = Some(Pin::AdvisoryLock);
            }
            Effect::SetConfig => self.set_config = true,
            Effect::Server => {
                let why = "it acts on one server, or reads what the router cannot see";
                self.undeclared = Some((name.to_owned(), why));
                self.leaves |= !builtin::leaves_nothing(name);
            }
        }
    }

    /// May a call do anything at all?
    pub(in crate::route) fn is_opaque(&self) -> bool {
        self.undeclared.is_some() || self.unknown || self.leaves || self.writes_per_shard
    }

    pub(in crate::route) fn refuse(&self) -> Result<(), RouteError> {
        match &self.undeclared {
            None => Ok(()),
            Some((name, reason)) => Err(RouteError::Function {
                name: name.clone(),
                reason: (*reason).to_owned(),
                hint:
                    "Declare it in [functions], make it IMMUTABLE if it is, or name the shard with \
                       /* keyway: shard=… */."
                        .to_owned(),
            }),
        }
    }
}

/// What a bound statement's calls ask for, those included that it does not name.
pub(in crate::route) fn traits_of(binder: &mut Binder<'_>, context: &Context<'_>) -> CallTraits {
    implied::add_calls(binder, context);
    CallTraits::of(&binder.calls)
}

pub(in crate::route) fn access_of(binder: &Binder<'_>, traits: &CallTraits) -> Access {
    if binder.writes || traits.access == Access::Write {
        Access::Write
    } else if binder.locking || traits.access == Access::Lock {
        Access::Lock
    } else {
        Access::Read
    }
}
