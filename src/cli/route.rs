//! `keyway route`: shows where a statement would go, asking no server.

use crate::cli::{Failure, RouteArguments, read_config};
use crate::config::Variables;
use crate::route::choose::context::Context;
use crate::route::choose::hint::{RouteHint, hinted};
use crate::route::choose::{recipe, unparsed};
use crate::route::error::RouteError;
use crate::route::explain::{Explanation, explain, explain_refusal};
use crate::route::key::{Param, Params, Values};
use crate::statement::parse::parse;
use crate::statement::scan::{ScanSettings, Scanned, Verb, scan, shape};
use crate::topology::build::offline;
use crate::topology::{Database, Topology};
use std::io::Write;
use std::sync::Arc;

/// Parameters as text.
struct Texts<'a>(&'a [String]);

impl Params for Texts<'_> {
    fn get(&self, number: u16) -> Option<Param<'_>> {
        let text = self.0.get(usize::from(number).checked_sub(1)?)?;
        Some(Param {
            oid: 0,
            binary: false,
            bytes: Some(text.as_bytes()),
        })
    }
}

/// Explains each statement of the text.
pub(super) fn route(arguments: &RouteArguments, variables: &Variables) -> Result<(), Failure> {
    let config = read_config(&arguments.config, variables)?;
    let topology = Arc::new(offline(&config).map_err(|error| Failure::Other(error.to_string()))?);
    let database = database(&topology, arguments.database.as_deref())?;
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    let statements =
        scan(&arguments.sql, settings).map_err(|error| Failure::Other(error.to_string()))?;
    let real: Vec<&Scanned> = statements
        .iter()
        .filter(|s| s.verb != Verb::Empty)
        .collect();
    if real.is_empty() {
        return Err(Failure::Other(
            "there is no statement to explain".to_owned(),
        ));
    }
    let mut out = std::io::stdout().lock();
    let mut refused = false;
    for statement in real {
        let explanation = explanation(arguments, &topology, &database, statement);
        refused |= explanation.plan == "refused";
        if arguments.json {
            writeln!(out, "{:#}", explanation.json())?;
        } else {
            for line in explanation.lines() {
                writeln!(out, "{line}")?;
            }
        }
    }
    if refused {
        Err(Failure::Status(1))
    } else {
        Ok(())
    }
}

fn database(topology: &Topology, named: Option<&str>) -> Result<Arc<Database>, Failure> {
    let mut names: Vec<&str> = topology.databases.keys().map(String::as_str).collect();
    names.sort_unstable();
    let found = match (named, names.as_slice()) {
        (Some(name), _) => topology.databases.get(name),
        (None, [one]) => topology.databases.get(*one),
        (None, _) => None,
    };
    found
        .cloned()
        .ok_or_else(|| Failure::Other(format!("name a database with -d: {}", names.join(", "))))
}

fn explanation(
    arguments: &RouteArguments,
    topology: &Arc<Topology>,
    database: &Arc<Database>,
    statement: &Scanned,
) -> Explanation {
    let shape = shape(&arguments.sql, statement);
    let search_path = ["public".to_owned()];
    let context = Context {
        topology,
        database,
        search_path: &search_path,
        verb: statement.verb,
        shape: &shape,
    };
    let hint = statement
        .hints
        .as_ref()
        .and_then(|hints| match (&hints.shard, &hints.key) {
            (Some(shard), _) => Some(RouteHint::Shard(shard)),
            (None, Some(key)) => Some(RouteHint::Key(key)),
            (None, None) => None,
        });
    let unknown = statement
        .hints
        .iter()
        .flat_map(|hints| &hints.unknown)
        .next();
    let tree = parse(&shape, statement.verb);
    let made = match (hint, &tree) {
        _ if unknown.is_some() => Err(RouteError::BadHint {
            reason: format!("unknown hint \"{}\"", unknown.map_or("", String::as_str)),
            hint: "Keyway knows /* keyway: key=… */ and /* keyway: shard=… */.".to_owned(),
        }),
        (Some(hint), tree) => hinted(tree.as_ref().ok(), &context, hint),
        (None, Ok(tree)) => recipe(tree, &context),
        (None, Err(error)) => unparsed(&error.reason, &context),
    };
    let values = Values {
        text: &arguments.sql,
        statement,
        params: &Texts(&arguments.parameters),
    };
    match made.and_then(|made| made.shown(&values, topology).map(|plan| (made, plan))) {
        Ok((made, plan)) => explain(&made, &plan, &values, topology),
        Err(error) => explain_refusal(&error, topology),
    }
}
