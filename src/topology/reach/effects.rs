//! What leads to what: a graph of acts on families, and of functions.

use crate::topology::reach::closure::{Closures, Mark, closures};
use crate::topology::reach::families::Families;
use crate::topology::reach::{FAMILIES_MAX, Family, Reach};
use crate::topology::schema::{ConstraintKind, Relation, Trigger, TriggerEvent};
use crate::topology::{FunctionDeclaration, TableName};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Functions of PostgreSQL's own that triggers may run: they see to the row that is written.
const HARMLESS: &[&str] = &[
    "suppress_redundant_updates_trigger",
    "tsvector_update_trigger",
    "tsvector_update_trigger_column",
];

/// What is done to a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Read,
    Insert,
    Update,
    Delete,
    Truncate,
}

/// How many there are.
const ACTS: usize = 5;

/// Those that change the rows that a statement says.
const ROW_WRITES: [Act; 3] = [Act::Insert, Act::Update, Act::Delete];

/// What every act leads to.
pub(super) struct Effects {
    closures: Closures,
}

impl Effects {
    /// A relation may be there more than once, as several shards have it: what one of them does may happen.
    pub(super) fn new(
        families: &Families<'_>,
        relations: &[&Relation],
        functions: &BTreeMap<TableName, FunctionDeclaration>,
    ) -> Self {
        let mut drawing = Drawing::new(families, relations, functions);
        let mut partitioned: BTreeSet<usize> = BTreeSet::new();
        for relation in relations {
            if let Some(family) = families.of(&relation.name) {
                drawing.add(family, relation);
                if relation.kind == 'p' {
                    partitioned.insert(family);
                }
            }
        }
        for family in partitioned {
            drawing.add_moves(family);
        }
        let acts = families.count() * ACTS;
        let anything = drawing.anything;
        let mark = |node: usize| {
            if node == anything {
                Mark::Anything
            } else if node < acts && node % ACTS != Act::Read as usize {
                Mark::One(node / ACTS)
            } else {
                Mark::Nothing
            }
        };
        Self {
            closures: closures(&drawing.finished(), mark, FAMILIES_MAX),
        }
    }

    /// All that an act leads to in the end.
    pub(super) fn reach(&self, families: &Families<'_>, family: usize, act: Act) -> Reach {
        let Some(met) = self.closures.of(node(family, act)) else {
            return Reach::Anything;
        };
        let mut numbers: Vec<Family> = met.iter().map(|met| families.number(*met)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Reach::Families(numbers)
    }
}

/// The nodes of acts come first, family by family, then those of declared functions, then one for anything.
fn node(family: usize, act: Act) -> usize {
    family * ACTS + act as usize
}

/// The graph while it is made.
struct Drawing<'d> {
    families: &'d Families<'d>,
    functions: HashMap<&'d TableName, usize>,
    /// The kinds that the shards have under each name.
    kinds: HashMap<&'d TableName, Vec<char>>,
    anything: usize,
    next: Vec<Vec<usize>>,
}

impl<'d> Drawing<'d> {
    fn new(
        families: &'d Families<'d>,
        relations: &[&'d Relation],
        declared: &'d BTreeMap<TableName, FunctionDeclaration>,
    ) -> Self {
        let mut kinds: HashMap<&TableName, Vec<char>> = HashMap::new();
        for relation in relations {
            kinds.entry(&relation.name).or_default().push(relation.kind);
        }
        let acts = families.count() * ACTS;
        let anything = acts + declared.len();
        let mut drawing = Self {
            families,
            functions: declared.keys().zip(acts..).collect(),
            kinds,
            anything,
            next: vec![Vec::new(); anything + 1],
        };
        for (declaration, function) in declared.values().zip(acts..) {
            drawing.add_declared(function, declaration);
        }
        drawing
    }

    /// Each step once.
    fn finished(mut self) -> Vec<Vec<usize>> {
        for next in &mut self.next {
            next.sort_unstable();
            next.dedup();
        }
        self.next
    }

    fn lead(&mut self, from: usize, to: usize) {
        self.next[from].push(to);
    }

    /// A function writes to its tables in a way that is not known. One that stays on its shard may write anything there.
    fn add_declared(&mut self, function: usize, declaration: &FunctionDeclaration) {
        let FunctionDeclaration::Touches { writes, .. } = declaration else {
            return self.lead(function, self.anything);
        };
        for written in writes {
            match self.families.of(written) {
                Some(family) if self.kinds.contains_key(written) => {
                    for act in ROW_WRITES.into_iter().chain([Act::Truncate]) {
                        self.lead(function, node(family, act));
                    }
                }
                _ => self.lead(function, self.anything),
            }
        }
    }

    /// What an act on the relation, as one shard has it, leads to.
    fn add(&mut self, family: usize, relation: &Relation) {
        for act in ROW_WRITES {
            if !relation.rules.is_empty() || !is_written_itself(relation, act) {
                self.lead(node(family, act), self.anything);
            }
        }
        for trigger in &relation.triggers {
            self.add_trigger(family, trigger);
        }
        for function in &relation.calls {
            for act in [Act::Insert, Act::Update] {
                self.lead_to_function(node(family, act), function);
            }
        }
        if relation.row_security {
            self.add_policies(family, relation);
        }
        for constraint in &relation.constraints {
            if let ConstraintKind::Foreign {
                table,
                on_update,
                on_delete,
                ..
            } = &constraint.kind
                && let Some(other) = self.families.of(table)
            {
                for act in acts_of_action(*on_delete, Act::Delete) {
                    self.lead(node(other, Act::Delete), node(family, *act));
                }
                for act in acts_of_action(*on_update, Act::Update) {
                    self.lead(node(other, Act::Update), node(family, *act));
                }
            }
        }
    }

    fn add_trigger(&mut self, family: usize, trigger: &Trigger) {
        let function = &trigger.function;
        let is_harmless =
            function.schema == "pg_catalog" && HARMLESS.contains(&function.name.as_str());
        for event in &trigger.events {
            let from = node(family, act_of_event(*event));
            if !is_harmless {
                self.lead_to_function(from, function);
            }
            for called in &trigger.calls {
                self.lead_to_function(from, called);
            }
        }
    }

    /// Policies run at any act, and what they read may have policies of its own.
    fn add_policies(&mut self, family: usize, relation: &Relation) {
        let reading = node(family, Act::Read);
        for policy in &relation.policies {
            for function in &policy.calls {
                self.lead_to_function(reading, function);
            }
            for read in &policy.reads {
                let is_table =
                    |kinds: &Vec<char>| kinds.iter().all(|k| matches!(k, 'r' | 'p' | 'm'));
                match self.families.of(read) {
                    Some(other) if self.kinds.get(read).is_some_and(is_table) => {
                        self.lead(reading, node(other, Act::Read));
                    }
                    // A view runs whatever its definition says.
                    _ => self.lead(reading, self.anything),
                }
            }
        }
        for act in ROW_WRITES {
            self.lead(node(family, act), reading);
        }
    }

    /// An UPDATE that moves a row to another partition is a DELETE and an INSERT to their triggers.
    fn add_moves(&mut self, family: usize) {
        for act in [Act::Insert, Act::Delete] {
            let further = self.next[node(family, act)].clone();
            self.next[node(family, Act::Update)].extend(further);
        }
    }

    fn lead_to_function(&mut self, from: usize, function: &TableName) {
        let to = self.functions.get(function).copied();
        self.lead(from, to.unwrap_or(self.anything));
    }
}

/// The act changes rows of this relation, or runs INSTEAD OF triggers. A foreign table's rows are elsewhere, and a view's are other
/// tables'.
fn is_written_itself(relation: &Relation, act: Act) -> bool {
    let instead = |trigger: &Trigger| {
        let mut acts = trigger.events.iter().map(|event| act_of_event(*event));
        trigger.timing == "INSTEAD OF" && acts.any(|at| at == act)
    };
    match relation.kind {
        'r' | 'p' => true,
        'v' => relation.triggers.iter().any(instead),
        _ => false,
    }
}

fn act_of_event(event: TriggerEvent) -> Act {
    match event {
        TriggerEvent::Insert => Act::Insert,
        TriggerEvent::Update => Act::Update,
        TriggerEvent::Delete => Act::Delete,
        TriggerEvent::Truncate => Act::Truncate,
    }
}

/// What a foreign key does to its rows, given pg_constraint's letter for its action, and what CASCADE means.
fn acts_of_action(letter: char, cascade: Act) -> &'static [Act] {
    match (letter, cascade) {
        ('a' | 'r', _) => &[],
        ('c', Act::Delete) => &[Act::Delete],
        ('c' | 'n' | 'd', _) => &[Act::Update],
        _ => &[Act::Update, Act::Delete],
    }
}
