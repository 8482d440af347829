//! What a shard still has to run: its keyspace's files and its own history → steps, or what stands in their way. Pure.

use crate::migrate::files::{Key, Migration};
use crate::migrate::version::Version;

/// A row of a shard's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which migration.
    pub key: Key,
    /// Its name when it ran.
    pub name: String,
    /// Its checksum when it ran.
    pub checksum: String,
    /// How far it came.
    pub state: State,
}

/// How far a migration came on a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Cut off outside a transaction.
    Running {
        /// Statements that were begun.
        begun: usize,
        /// Statements that are done: as many, or one less.
        done: usize,
    },
    /// Done.
    Done,
    /// The shard had it, and all versions before it, when its history began.
    Baseline,
}

/// One migration to run on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'m> {
    /// Which.
    pub migration: &'m Migration,
    /// Statements that are done.
    pub from: usize,
    /// Statements that were begun before: when it is one more, nobody knows how far that one came.
    pub begun: usize,
    /// It is a repeatable one that has run before.
    pub again: bool,
}

/// What stands in the way of a shard's migrations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A file that has run was changed.
    #[error(
        "{file} was changed after it ran; restore it and write a new migration, or record the new text with `keyway migrate repair`"
    )]
    Changed {
        /// The file.
        file: String,
    },
    /// A file that ran half was changed.
    #[error("{file} was changed after {done} of its statements ran; restore it")]
    ChangedHalf {
        /// The file.
        file: String,
        /// Statements done.
        done: usize,
    },
    /// A migration has run whose file is gone.
    #[error(
        "version {key} ({name}) has run and has no file; restore it, or forget it with `keyway migrate repair`"
    )]
    Missing {
        /// Which.
        key: Key,
        /// Its name.
        name: String,
    },
    /// A new file comes before one that has run.
    #[error(
        "{file} comes before version {behind}, which has run; give it a later version, or allow it with --out-of-order"
    )]
    OutOfOrder {
        /// The file.
        file: String,
        /// The last version that has run.
        behind: Version,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Nothing behind this version.
    pub to: Option<Version>,
    /// Versions may run late.
    pub out_of_order: bool,
}

/// The steps of one shard, in order.
///
/// # Errors
/// Everything that stands in their way.
pub fn steps<'m>(
    migrations: &'m [Migration],
    history: &[Entry],
    shard: &str,
    wanted: &Wanted,
) -> Result<Vec<Step<'m>>, Vec<Obstacle>> {
    let mut obstacles = missing(migrations, history);
    let baseline = history
        .iter()
        .filter(|entry| entry.state == State::Baseline);
    let baseline = baseline.map(|entry| &entry.key).max();
    let ran = |entry: &&Entry| matches!(entry.state, State::Done | State::Baseline);
    let last = history
        .iter()
        .filter(ran)
        .filter_map(|entry| match &entry.key {
            Key::Version(version) => Some(version),
            Key::Repeatable(_) => None,
        });
    let last = last.max();
    let mut steps = Vec::new();
    for migration in migrations {
        let up = &migration.up;
        if up
            .shards
            .as_ref()
            .is_some_and(|shards| !shards.iter().any(|name| name == shard))
        {
            continue;
        }
        let entry = history.iter().find(|entry| entry.key == migration.key);
        let same = entry.is_some_and(|entry| entry.checksum == up.checksum);
        let mut step = |(begun, from), again| {
            steps.push(Step {
                migration,
                from,
                begun,
                again,
            });
        };
        let is_version = matches!(migration.key, Key::Version(_));
        match entry.map(|entry| entry.state) {
            Some(State::Baseline) => {}
            Some(State::Done) if same => {}
            Some(State::Done) if is_version => obstacles.push(Obstacle::Changed {
                file: up.file.clone(),
            }),
            Some(State::Done) => step((0, 0), true),
            Some(State::Running { begun, done }) if same => step((begun, done), false),
            Some(State::Running { done, .. }) => obstacles.push(Obstacle::ChangedHalf {
                file: up.file.clone(),
                done,
            }),
            None if is_version && baseline.is_some_and(|baseline| migration.key <= *baseline) => {}
            None => match (&migration.key, last) {
                (Key::Version(version), Some(last)) if version < last && !wanted.out_of_order => {
                    obstacles.push(Obstacle::OutOfOrder {
                        file: up.file.clone(),
                        behind: last.clone(),
                    });
                }
                _ => step((0, 0), false),
            },
        }
    }
    if let Some(to) = &wanted.to {
        // What can be repeated stands on the last version.
        steps.retain(|step| matches!(&step.migration.key, Key::Version(version) if version <= to));
    }
    if obstacles.is_empty() {
        Ok(steps)
    } else {
        Err(obstacles)
    }
}

fn missing(migrations: &[Migration], history: &[Entry]) -> Vec<Obstacle> {
    let is_gone = |entry: &&Entry| {
        entry.state != State::Baseline && !migrations.iter().any(|own| own.key == entry.key)
    };
    let gone = history.iter().filter(is_gone);
    gone.map(|entry| Obstacle::Missing {
        key: entry.key.clone(),
        name: entry.name.clone(),
    })
    .collect()
}
