//! Which shard is which database on which server, and the configuration that says so to the router.

use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use crate::demo::cluster::{Auth, Cluster, ClusterError, ClusterOptions};
use crate::demo::schema::{SHARDED_TABLES, VERTICAL};
use crate::demo::{DemoError, MIGRATIONS};

/// More shards than this share the servers: each server costs memory and time to start.
const SERVERS_MAX: usize = 4;
/// Connections that one shard may take: the router's pool and what the control plane and a curious person need.
const CONNECTIONS_PER_SHARD: usize = 30;
/// The demo's database, user, password, and role on the shards.
const NAME: &str = "demo";

/// The connection string of a demo's router.
pub(super) fn url(port: u16) -> String {
    format!("postgres://{NAME}:{NAME}@127.0.0.1:{port}/{NAME}")
}

/// The demo's shards.
pub(super) struct Layout {
    shards: u16,
}

impl Layout {
    /// With so many horizontal shards, and the vertical ones.
    pub(super) fn of(shards: u16) -> Self {
        Self { shards }
    }

    /// The number of horizontal shards.
    pub(super) fn shards(&self) -> u16 {
        self.shards
    }

    /// PostgreSQL servers to start.
    pub(super) fn servers(&self) -> usize {
        usize::from(self.shards).min(SERVERS_MAX)
    }

    /// The horizontal shards' names.
    pub(super) fn horizontal(&self) -> Vec<String> {
        (0..self.shards)
            .map(|number| format!("s{number}"))
            .collect()
    }

    /// Every shard's name, which is also its database's, with the server it is on: the horizontal ones in turn, then
    /// the vertical ones in turn.
    fn placed(&self) -> Vec<(String, usize)> {
        let vertical = VERTICAL.iter().map(|(keyspace, _)| (*keyspace).to_owned());
        let names = self.horizontal().into_iter().chain(vertical);
        names
            .enumerate()
            .map(|(index, name)| (name, index % self.servers()))
            .collect()
    }

    /// Starts the servers with the shards' databases, or those that `keep` holds.
    pub(super) async fn start_servers(
        &self,
        keep: Option<PathBuf>,
    ) -> Result<Vec<Cluster>, DemoError> {
        let (count, placed) = (self.servers(), self.placed());
        let started =
            tokio::task::spawn_blocking(move || start_servers(count, &placed, keep.as_deref()));
        started.await.map_err(|source| DemoError::Io {
            doing: "start the servers",
            source: source.into(),
        })?
    }

    /// Writes the router's configuration, readable by us alone: it holds the servers' password.
    pub(super) fn write_configuration(
        &self,
        servers: &[Cluster],
        port: u16,
        http: u16,
        file: &Path,
    ) -> Result<(), DemoError> {
        let migrations = std::path::absolute(file.with_file_name(MIGRATIONS));
        let written = migrations.and_then(|migrations| {
            write_private(file, &self.configuration(servers, port, http, &migrations))
        });
        written.map_err(|source| DemoError::Io {
            doing: "write the configuration",
            source,
        })
    }

    fn configuration(
        &self,
        servers: &[Cluster],
        port: u16,
        http: u16,
        migrations: &Path,
    ) -> String {
        let password = servers[0].password().unwrap_or_default();
        let mut text = format!(
            "listen = \"127.0.0.1:{port}\"\nhttp = \"127.0.0.1:{http}\"\ncatalog = \"s0\"\n\
             migrations = {:?}\n\n[log]\nlevel = \"warn\"\n\n\
             [users.{NAME}]\npassword = \"{NAME}\"\nserver_user = \"{NAME}\"\nserver_password = \"{password}\"\n",
            migrations.to_string_lossy()
        );
        for (name, server) in self.placed() {
            let _ = write!(
                text,
                "\n[shards.{name}]\nprimary = \"{}\"\n",
                servers[server].dsn_of(NAME, &name)
            );
        }
        let keyspaces: Vec<&str> = VERTICAL.iter().map(|(keyspace, _)| *keyspace).collect();
        let _ = write!(
            text,
            "\n[databases.{NAME}]\nkeyspaces = [\"main\", \"{}\"]\ndefault = \"main\"\n",
            keyspaces.join("\", \"")
        );
        let _ = write!(
            text,
            "\n[keyspaces.main]\nshards = [\"{}\"]\n{SHARDED_TABLES}",
            self.horizontal().join("\", \"")
        );
        for (keyspace, tables) in VERTICAL {
            let _ = write!(
                text,
                "\n[keyspaces.{keyspace}]\nshards = [\"{keyspace}\"]\n[keyspaces.{keyspace}.tables]\n"
            );
            for table in *tables {
                let _ = writeln!(text, "{table} = {{}}");
            }
        }
        text.push_str(CACHE);
        text
    }
}

/// Of the configuration.
const CACHE: &str = "
# Answers are kept, and given again until a write that passes Keyway changes what they are made of. Writes that do not pass it, by
# psql on a shard, are seen when the time to live is over (docs/cache.md).
[cache]
enabled = true
ttl = \"60s\"
";

/// What is where, a line per kind.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shards = self.horizontal().join(", ");
        writeln!(
            f,
            "  users, posts, follows, timelines   by user over {shards}"
        )?;
        writeln!(f, "  countries                          on each of them")?;
        for (keyspace, tables) in VERTICAL {
            writeln!(f, "  {:<34} on {keyspace}", tables.join(", "))?;
        }
        Ok(())
    }
}

fn start_servers(
    count: usize,
    placed: &[(String, usize)],
    keep: Option<&Path>,
) -> Result<Vec<Cluster>, DemoError> {
    let password = password(keep).map_err(|source| DemoError::Io {
        doing: "keep the servers' password",
        source,
    })?;
    let connections = placed.len().div_ceil(count) * CONNECTIONS_PER_SHARD;
    let options = ClusterOptions {
        max_connections: u16::try_from(connections).unwrap_or(u16::MAX),
        auth: Auth::Scram {
            password: &password,
        },
        keep,
        ..ClusterOptions::default()
    };
    let servers = Cluster::start_many(count, &options)?;
    thread::scope(|scope| {
        let creating: Vec<_> = (0..count)
            .map(|index| {
                let here = placed
                    .iter()
                    .filter(move |(_, on)| *on == index)
                    .map(|(name, _)| name.as_str());
                let (server, password) = (&servers[index], &password);
                scope.spawn(move || create_databases(server, here, password))
            })
            .collect();
        creating
            .into_iter()
            .try_for_each(|one| one.join().expect("creating databases does not panic"))
    })?;
    Ok(servers)
}

/// The shards' databases belong to a role that is no superuser, as they should.
fn create_databases<'a>(
    server: &Cluster,
    names: impl Iterator<Item = &'a str>,
    password: &str,
) -> Result<(), ClusterError> {
    let there = server.query(
        "postgres",
        "SELECT datname FROM pg_database WHERE NOT datistemplate",
    )?;
    if there.len() > 1 {
        return Ok(());
    }
    server.execute(
        "postgres",
        &format!("CREATE ROLE {NAME} LOGIN PASSWORD '{password}'"),
    )?;
    for name in names {
        server.create_database(name)?;
        server.execute(
            "postgres",
            &format!("ALTER DATABASE \"{name}\" OWNER TO {NAME}"),
        )?;
    }
    Ok(())
}

/// A password of letters and digits: a new one, or a kept directory's.
fn password(keep: Option<&Path>) -> io::Result<String> {
    let Some(directory) = keep else {
        return Ok(new_password());
    };
    let file = directory.join("password");
    match fs::read_to_string(&file) {
        Ok(password) => Ok(password),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            let password = new_password();
            write_private(&file, &password)?;
            Ok(password)
        }
        Err(error) => Err(error),
    }
}

fn new_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let mut opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    opened.write_all(text.as_bytes())
}
