//! What a shard still has to run: its keyspace's files and its own history → steps, or what stands in their way. Pure.

use crate::migrate::files::{Key, Migration, Script};
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
    /// Cut off outside a transaction, on the way back.
    Undoing {
        /// Statements of the way back that were begun.
        begun: usize,
        /// Statements of it that are done.
        done: usize,
    },
    /// Done.
    Done,
    /// The shard had it when its history began.
    Baseline,
}

/// One migration to run, or to undo, on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'m> {
    /// Which.
    pub migration: &'m Migration,
    /// The way there or the way back.
    pub script: &'m Script,
    /// It is the way back.
    pub back: bool,
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
    /// A migration was half undone.
    #[error("{file} is half undone; end that with `keyway migrate down`")]
    HalfUndone {
        /// The way back's file.
        file: String,
    },
    /// What is to be undone ran half.
    #[error("{file} ran half ({done} of its statements); end that with `keyway migrate up`")]
    HalfRun {
        /// The file.
        file: String,
        /// Statements done.
        done: usize,
    },
    /// What is to be undone was there before the history began.
    #[error(
        "version {version} was there before the history began; Keyway did not run it and cannot undo it"
    )]
    Baseline {
        /// The version.
        version: Version,
    },
    /// What is to be undone has no way back.
    #[error("{file} has no way back; write it to {}.down.sql", stem(file))]
    NoWayBack {
        /// The file.
        file: String,
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
                script: up,
                back: false,
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
            Some(State::Undoing { .. }) => obstacles.push(Obstacle::HalfUndone {
                file: migration.down.as_ref().unwrap_or(up).file.clone(),
            }),
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

/// The steps back of each shard, in order: the last `count` versions that any shard has.
///
/// # Errors
/// Everything that stands in their way, with the shard it is on.
pub fn steps_back<'m>(
    migrations: &'m [Migration],
    histories: &[(String, Vec<Entry>)],
    count: usize,
) -> Result<Vec<Vec<Step<'m>>>, Vec<(String, Obstacle)>> {
    let versions = histories.iter().flat_map(|(_, own)| own);
    let mut versions: Vec<&Version> = versions
        .filter_map(|entry| match &entry.key {
            Key::Version(version) => Some(version),
            Key::Repeatable(_) => None,
        })
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let last = versions.split_off(versions.len().saturating_sub(count));
    let mut obstacles = Vec::new();
    let mut all = Vec::new();
    for (shard, history) in histories {
        let mut own = Vec::new();
        for version in last.iter().rev() {
            let entry = history
                .iter()
                .find(|entry| matches!(&entry.key, Key::Version(own) if own == *version));
            match entry.map(|entry| step_back(migrations, entry, version)) {
                None => {}
                Some(Ok(step)) => own.push(step),
                Some(Err(obstacle)) => obstacles.push((shard.clone(), obstacle)),
            }
        }
        all.push(own);
    }
    if obstacles.is_empty() {
        Ok(all)
    } else {
        Err(obstacles)
    }
}

fn step_back<'m>(
    migrations: &'m [Migration],
    entry: &Entry,
    version: &Version,
) -> Result<Step<'m>, Obstacle> {
    if entry.state == State::Baseline {
        return Err(Obstacle::Baseline {
            version: version.clone(),
        });
    }
    let migration = migrations.iter().find(|own| own.key == entry.key);
    let migration = migration.ok_or_else(|| Obstacle::Missing {
        key: entry.key.clone(),
        name: entry.name.clone(),
    })?;
    let file = || migration.up.file.clone();
    let down = migration.down.as_ref();
    let down = down.ok_or_else(|| Obstacle::NoWayBack { file: file() })?;
    let step = |(begun, from)| Step {
        migration,
        script: down,
        back: true,
        from,
        begun,
        again: false,
    };
    match entry.state {
        State::Running { done, .. } => Err(Obstacle::HalfRun { file: file(), done }),
        State::Undoing { begun, done } if entry.checksum == down.checksum => {
            Ok(step((begun, done)))
        }
        State::Undoing { done, .. } => Err(Obstacle::ChangedHalf {
            file: down.file.clone(),
            done,
        }),
        State::Done if entry.checksum != migration.up.checksum => {
            Err(Obstacle::Changed { file: file() })
        }
        State::Done | State::Baseline => Ok(step((0, 0))),
    }
}

/// A file's name without its end.
fn stem(file: &str) -> &str {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.strip_suffix(".up").unwrap_or(stem)
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
