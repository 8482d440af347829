//! Failed logins as the log tells of them: who, from where and why, and never more lines than somebody can read.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Lines that a worker writes in one period.
const LINES_MAX: u32 = 10;

/// A period.
const PERIOD: Duration = Duration::from_secs(10);

/// Bytes of a name that are shown: PostgreSQL's own names are no longer (NAMEDATALEN).
const NAME_MAX: usize = 63;

/// Who tries to log in, as far as it has said.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) user: Option<String>,
    pub(super) database: Option<String>,
}

impl Attempt {
    /// By a user, to a database.
    pub(super) fn new(user: &str, database: &str) -> Self {
        let shown = |name: &str| Some(name[..name.floor_char_boundary(NAME_MAX)].to_owned());
        Self {
            user: shown(user),
            database: shown(database),
        }
    }
}

/// A worker's failed logins.
#[derive(Debug, Default)]
pub struct LoginFailures {
    /// When the period at hand began.
    began: Cell<Option<Instant>>,
    /// Lines written in it.
    lines: Cell<u32>,
    /// Failures since the last line.
    untold: Cell<u64>,
}

impl LoginFailures {
    /// Logs a failed login, or counts it when there are too many.
    pub(super) fn tell(
        &self,
        attempt: &Attempt,
        address: Option<SocketAddr>,
        sqlstate: Option<&str>,
        reason: &str,
    ) {
        let Some(untold) = self.may_tell(Instant::now()) else {
            return;
        };
        tracing::warn!(
            user = attempt.user,
            database = attempt.database,
            address = address.map(tracing::field::display),
            sqlstate,
            reason,
            untold = (untold > 0).then_some(untold),
            "a login failed"
        );
    }

    /// May a line be written now? How many failures had none since the last one.
    fn may_tell(&self, now: Instant) -> Option<u64> {
        let is_over = |began: Instant| now.duration_since(began) >= PERIOD;
        if self.began.get().is_none_or(is_over) {
            self.began.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() >= LINES_MAX {
            self.untold.set(self.untold.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let failures = LoginFailures::default();
        let start = Instant::now();
        let told = |seconds: u64, times: usize| -> Vec<u64> {
            let now = start + Duration::from_secs(seconds);
            (0..times).filter_map(|_| failures.may_tell(now)).collect()
        };
        assert_eq!(told(0, 3), [0, 0, 0]);
        assert_eq!(told(9, 1_000), [0; 7]);
        assert_eq!(told(10, 2), [993, 0]);
        assert_eq!(told(19, 9), [0; 8]);
        assert_eq!(told(100, 1), [1]);
    }

    #[test]
    fn a_long_name_is_cut() {
        let attempt = Attempt::new(&"ü".repeat(5_000), "app");
        assert_eq!(attempt.user, Some("ü".repeat(31)));
        assert_eq!(attempt.database.as_deref(), Some("app"));
    }
}
