//! `partitions.toml`: declarations beside a keyspace's migrations.

use crate::config::partitions::{Declared, check};
use crate::config::section::{Notes, Problem, Section};
use crate::config::values::TableName;
use crate::config::{Config, Problems, without_snippet};
use ::config::Source as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The file's name, in a keyspace's directory.
const FILE: &str = "partitions.toml";

/// What each keyspace declares, in the configuration and in `root/<keyspace>/partitions.toml`. A root or a file that is not
/// there declares nothing.
///
/// # Errors
/// Everything that is wrong with the files, a table that is declared in two places, and a directory of no keyspace.
pub fn declarations(config: &Config, root: &Path) -> Result<BTreeMap<String, Declared>, Problems> {
    let mut problems = Vec::new();
    let mut all = BTreeMap::new();
    strays(config, root, &mut problems);
    for (name, keyspace) in &config.keyspaces {
        let path = root.join(name).join(FILE);
        let mut declared = keyspace.partitions.clone();
        match read(&path) {
            Err(wrong) => problems.extend(wrong.0),
            Ok(own) => {
                for (table, partitioned) in own {
                    if keyspace.partitions.contains_key(&table) {
                        problems.push(Problem {
                            key: format!("keyspaces.{name}.partitions.{table}"),
                            what: format!("{} declares it too; leave one of them", path.display()),
                        });
                    }
                    declared.insert(table, partitioned);
                }
            }
        }
        all.insert(name.clone(), declared);
    }
    twice(config, &all, &mut problems);
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(Problems(problems))
    }
}

/// Files of keyspaces that the configuration does not have.
fn strays(config: &Config, root: &Path, problems: &mut Vec<Problem>) {
    let Ok(entries) = std::fs::read_dir(root) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = path.join(FILE);
        if file.is_file() && !config.keyspaces.contains_key(&*name) {
            problems.push(Problem {
                key: file.display().to_string(),
                what: format!("the configuration has no keyspace {name:?}"),
            });
        }
    }
}

/// A table of a shard is declared by one of the keyspaces that share the shard.
fn twice(config: &Config, all: &BTreeMap<String, Declared>, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<(&str, &TableName), &str> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (name, keyspace) in &config.keyspaces {
        for table in all.get(name).into_iter().flat_map(BTreeMap::keys) {
            for shard in &keyspace.shards {
                let first = seen.insert((shard, table), name);
                if let Some(first) = first.filter(|first| *first != name)
                    && told.insert((name, table))
                {
                    problems.push(Problem {
                        key: format!("keyspaces.{name}.partitions.{table}"),
                        what: format!(
                            "keyspace {first:?} declares it too, and both are on shard {shard:?}"
                        ),
                    });
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Declared, Problems> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Declared::new()),
        Err(error) => {
            return Err(Problems::one(path.display().to_string(), error.to_string()));
        }
    };
    parse(&text).map_err(|mut problems| {
        for problem in &mut problems.0 {
            let what = problem.to_string();
            *problem = Problem {
                key: path.display().to_string(),
                what,
            };
        }
        problems
    })
}

/// Reads the text of a file.
///
/// # Errors
/// All its problems.
pub fn parse(text: &str) -> Result<Declared, Problems> {
    // Not by way of a builder, which reads a dot in a table's name as the way to a key.
    let collected = ::config::File::from_str(text, ::config::FileFormat::Toml).collect();
    let written = collected.and_then(|tables| {
        let read = |(name, value): (String, ::config::Value)| {
            Ok((name, value.try_deserialize::<Value>()?))
        };
        tables.into_iter().map(read).collect()
    });
    let written: serde_json::Map<String, Value> =
        written.map_err(|error| Problems::one("", without_snippet(&error)))?;
    let notes = Notes::default();
    let sections = written
        .iter()
        .map(|(name, value)| (name.clone(), Section::top(name, value, &notes)))
        .collect();
    let declared = check(sections, &notes);
    Problems::none_or(notes, declared)
}
