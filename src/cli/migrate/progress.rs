//! What a run tells: a line for each step that is done and, on a terminal, a bar for each shard.

use crate::cli::complain;
use crate::cli::migrate::println;
use crate::migrate::rollout::News;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often a bar's clock moves.
const TICK: Duration = Duration::from_millis(200);

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Who typed the command.
    Terminal,
    /// Who reads the router's log.
    Log,
}

/// One keyspace's run.
pub(super) struct Progress<'k> {
    keyspace: &'k str,
    audience: Audience,
    all: MultiProgress,
    /// By shard; none when standard error is no terminal.
    bars: Option<Mutex<HashMap<String, ProgressBar>>>,
}

impl<'k> Progress<'k> {
    pub(super) fn new(keyspace: &'k str, audience: Audience) -> Self {
        let has_bars = audience == Audience::Terminal && io::stderr().is_terminal();
        Self {
            keyspace,
            audience,
            all: MultiProgress::new(),
            bars: has_bars.then(Mutex::default),
        }
    }

    pub(super) fn tell(&self, news: &News<'_>) {
        match news {
            News::Begun { shard, steps } => self.begin(shard, *steps),
            News::Running { shard, step } => self.with(shard, |bar| {
                bar.set_message(format!("{} {}", step.migration.key, step.migration.name));
            }),
            News::Done { shard, step, took } => {
                let line = format!(
                    "{} {shard}: {}{} {} ({} ms)",
                    self.keyspace,
                    if step.back { "undone " } else { "" },
                    step.migration.key,
                    step.migration.name,
                    took.as_millis()
                );
                match self.audience {
                    Audience::Terminal => self.all.suspend(|| println(&line)),
                    Audience::Log => tracing::info!("{line}"),
                }
                self.with(shard, |bar| bar.inc(1));
            }
            News::Failed { shard, why } => {
                self.with(shard, |bar| bar.abandon_with_message("failed"));
                let line = format!("{} {shard}: {why}", self.keyspace);
                match self.audience {
                    Audience::Terminal => self.all.suspend(|| complain(&line)),
                    Audience::Log => tracing::error!("{line}"),
                }
            }
        }
    }

    fn begin(&self, shard: &str, steps: usize) {
        let Some(bars) = self.bars.as_ref().filter(|_| steps > 0) else {
            return;
        };
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {elapsed} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX)).with_style(style);
        bar.set_prefix(format!("{} {shard}", self.keyspace));
        let bar = self.all.add(bar);
        bar.enable_steady_tick(TICK);
        bars.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(shard.to_owned(), bar);
    }

    fn with(&self, shard: &str, change: impl FnOnce(&ProgressBar)) {
        let Some(bars) = &self.bars else { return };
        let bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = bars.get(shard) {
            change(bar);
        }
    }
}
