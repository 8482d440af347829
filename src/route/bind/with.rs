//! WITH entries: a query is bound afresh wherever it is named; what modifies data or recurs is placed once, on its own.

use crate::route::bind::Binder;
use crate::route::bind::bound::{Ref, RefColumn, RefId, Source};
use crate::route::bind::scope::{Scope, WithEntry, WithKind};
use crate::route::error::RouteError;
use crate::statement::tree::{Cte, Statement};

impl Binder<'_> {
    /// WITH entries. Queries are bound where they are referred to; what modifies data or recurs, here.
    pub(super) fn bind_with<'s>(
        &mut self,
        with: &'s [Cte],
        recursive: bool,
        outer: &Scope<'_>,
    ) -> Result<Vec<WithEntry<'s>>, RouteError> {
        let mut entries: Vec<WithEntry<'s>> = Vec::with_capacity(with.len());
        for (index, cte) in with.iter().enumerate() {
            let kind = match &cte.statement {
                // RECURSIVE lets an entry name itself and the later ones: each is placed on its own.
                Statement::Query(query) if recursive => {
                    let all: Vec<WithEntry<'_>> = with
                        .iter()
                        .map(|other| WithEntry::new(other, WithKind::Recursive))
                        .collect();
                    let scope = Scope {
                        parent: Some(outer),
                        level: None,
                        with: &all,
                    };
                    let bound = self.bind_query(query, &scope)?;
                    self.separate.push(bound);
                    WithKind::Recursive
                }
                Statement::Query(query) => WithKind::Query {
                    query,
                    before: index,
                },
                modifying => {
                    let scope = Scope {
                        parent: Some(outer),
                        level: None,
                        with: &entries,
                    };
                    let bound = self.bind_modifying(modifying, &scope)?;
                    let facts = self.facts(&bound);
                    let output = bound.output.clone();
                    self.separate.push(bound);
                    WithKind::Modifying { output, facts }
                }
            };
            entries.push(WithEntry::new(cte, kind));
        }
        Ok(entries)
    }

    /// Binds the WITH queries that nothing refers to: PostgreSQL checks them too.
    pub(super) fn bind_unused(
        &mut self,
        entries: &[WithEntry<'_>],
        outer: &Scope<'_>,
    ) -> Result<(), RouteError> {
        for entry in entries.iter().rev() {
            if let (WithKind::Query { query, before }, false) = (&entry.kind, entry.used.get()) {
                let scope = Scope {
                    parent: Some(outer),
                    level: None,
                    with: &entries[..*before],
                };
                let bound = self.bind_query(query, &scope)?;
                self.separate.push(bound);
            }
        }
        Ok(())
    }

    pub(super) fn bind_with_entry(
        &mut self,
        entry: &WithEntry<'_>,
        entries: &[WithEntry<'_>],
        parent: Option<&Scope<'_>>,
        alias: &str,
        columns: &[String],
    ) -> Result<RefId, RouteError> {
        let leaf = match &entry.kind {
            WithKind::Query { query, before } => {
                entry.used.set(true);
                let scope = Scope {
                    parent,
                    level: None,
                    with: &entries[..*before],
                };
                let bound = self.bind_query(query, &scope)?;
                self.derived(bound, None, entry.columns)?
            }
            WithKind::Recursive => {
                let known = entry
                    .columns
                    .iter()
                    .map(|name| RefColumn {
                        name: name.clone(),
                        node: None,
                    })
                    .collect();
                self.add_ref(Ref {
                    source: Source::Derived {
                        query: None,
                        links_in: Vec::new(),
                        facts: Vec::new(),
                    },
                    alias: None,
                    own_name: None,
                    columns: known,
                    complete: false,
                    nodes: 0..0,
                })?
            }
            WithKind::Modifying { output, facts } => {
                let leaf = self.add_ref(Ref {
                    source: Source::Derived {
                        query: None,
                        links_in: Vec::new(),
                        facts: facts.clone(),
                    },
                    alias: None,
                    own_name: None,
                    columns: Vec::new(),
                    complete: false,
                    nodes: 0..0,
                })?;
                self.expose(leaf, output);
                self.rename(leaf, entry.columns);
                leaf
            }
        };
        self.refs[leaf].alias = Some(alias.to_owned());
        self.rename(leaf, columns);
        Ok(leaf)
    }
}
