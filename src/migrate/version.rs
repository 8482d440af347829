//! Versions of migrations: `20260101120000`, `1`, Flyway's `1.2` and `1_2`.

use std::cmp::Ordering;
use std::fmt;

/// Numbers with dots between them, compared as numbers. Zeros at the end say nothing: 1.0 is 1.
#[derive(Debug, Clone)]
pub struct Version(Vec<u64>);

impl Version {
    /// Reads a version as file names and command lines have it. `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        };
        let parts: Option<Vec<u64>> = text.split(['.', '_']).map(number).collect();
        parts.map(Self)
    }

    fn significant(&self) -> &[u64] {
        let length = self.0.iter().rposition(|part| *part != 0);
        &self.0[..length.map_or(1, |last| last + 1)]
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.significant().cmp(other.significant())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.significant().iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(out, "{dot}{part}")?;
        }
        Ok(())
    }
}
