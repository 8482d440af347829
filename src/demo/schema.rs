//! The demo's schema (the same files a project of its own would keep in `migrations/`) and what to try on it.

use std::path::Path;
use std::{fs, io};

use crate::demo::DemoError;

/// Keyspaces of one shard each, with their tables.
pub(super) const VERTICAL: &[(&str, &[&str])] = &[
    ("profile", &["user_profiles"]),
    ("activity", &["user_activities"]),
    ("settings", &["user_settings"]),
];

/// The sharded keyspace's tables, as lines of the configuration.
pub(super) const SHARDED_TABLES: &str = r#"[keyspaces.main.tables]
users     = { key = "id" }
posts     = { key = "user_id" }
follows   = { key = "user_id" }
timelines = { key = "user_id" }
countries = { reference = true }
"#;

/// The keyspaces' migrations and partitions, as files beside the configuration.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "main/V1__social_network.sql",
        include_str!("../../migrations/main/V1__social_network.sql"),
    ),
    (
        "main/V2__posts_by_likes.sql",
        include_str!("../../migrations/main/V2__posts_by_likes.sql"),
    ),
    (
        "main/V2__posts_by_likes.down.sql",
        include_str!("../../migrations/main/V2__posts_by_likes.down.sql"),
    ),
    (
        "main/partitions.toml",
        include_str!("../../migrations/main/partitions.toml"),
    ),
    (
        "profile/V1__user_profiles.sql",
        include_str!("../../migrations/profile/V1__user_profiles.sql"),
    ),
    (
        "activity/V1__user_activities.sql",
        include_str!("../../migrations/activity/V1__user_activities.sql"),
    ),
    (
        "activity/partitions.toml",
        include_str!("../../migrations/activity/partitions.toml"),
    ),
    (
        "settings/V1__user_settings.sql",
        include_str!("../../migrations/settings/V1__user_settings.sql"),
    ),
];

/// What a newcomer sees first, with what each shows.
pub(super) const TO_TRY: &[(&str, &str)] = &[
    (
        "one user lives on one shard, joins on the user too",
        "SELECT u.name, c.name AS country, p.title FROM users u JOIN countries c ON c.code = u.country \
         JOIN posts p ON p.user_id = u.id WHERE u.id = 42 ORDER BY p.posted DESC LIMIT 5;",
    ),
    (
        "all shards are asked, and their rows merged in order",
        "SELECT user_id, title, likes FROM posts ORDER BY likes DESC, user_id, id LIMIT 5;",
    ),
    (
        "counts of the shards become one",
        "SELECT country, count(*) AS users, max(joined) AS newest FROM users GROUP BY country ORDER BY country LIMIT 5;",
    ),
    (
        "this table is on a shard of its own",
        "SELECT theme, language FROM user_settings WHERE user_id = 42;",
    ),
    (
        "asked again, an answer comes from memory: see the last lines",
        "EXPLAIN (ROUTE) SELECT country, count(*) AS users FROM users GROUP BY country;",
    ),
    (
        "where does a statement go, and why?",
        "EXPLAIN (ROUTE) SELECT * FROM timelines WHERE user_id = 42 ORDER BY posted DESC;",
    ),
];

/// Writes the files into a directory.
pub(super) fn write(directory: &Path) -> Result<(), DemoError> {
    let writing = || -> io::Result<()> {
        for (name, text) in FILES {
            let path = directory.join(name);
            if let Some(keyspace) = path.parent() {
                fs::create_dir_all(keyspace)?;
            }
            fs::write(path, text)?;
        }
        Ok(())
    };
    writing().map_err(|source| DemoError::Io {
        doing: "write the migrations",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_the_migrations_is_in_the_configuration() {
        let mut tables = 0;
        for (file, text) in FILES {
            for rest in text.split("CREATE TABLE ").skip(1) {
                let name = rest.split_whitespace().next().unwrap();
                let sharded = SHARDED_TABLES
                    .lines()
                    .any(|line| line.split_whitespace().next() == Some(name));
                let vertical = VERTICAL
                    .iter()
                    .any(|(keyspace, names)| file.contains(keyspace) && names.contains(&name));
                assert!(sharded ^ vertical, "{name}");
                tables += 1;
            }
        }
        assert_eq!(tables, 8);
    }
}
