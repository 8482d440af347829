//! Where PostgreSQL's server programs are on this machine.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cluster::ClusterError;

/// Directories whose entries each hold one version's programs, with the path below the entry.
const VERSIONED: &[(&str, &str, &str)] = &[
    // (parent, what an entry's name starts with, where its programs are)
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// The directory of `initdb`, `postgres` and, usually, `pgbench` and `psql`: `KEYWAY_PG_BIN`, else the first of
/// `PATH`, `pg_config --bindir`, and the places where packages put them, newest version first.
pub fn find() -> Result<PathBuf, ClusterError> {
    if let Some(chosen) = env::var_os("KEYWAY_PG_BIN").filter(|value| !value.is_empty()) {
        let chosen = PathBuf::from(chosen);
        return complete(&chosen).ok_or(ClusterError::NoPostgresIn { directory: chosen });
    }
    let path = env::var_os("PATH").unwrap_or_default();
    in_path(&path)
        .or_else(|| complete(&bindir_of_pg_config()?))
        .or_else(|| {
            VERSIONED
                .iter()
                .find_map(|(parent, prefix, below)| newest(Path::new(parent), prefix, below))
        })
        .ok_or(ClusterError::NoPostgres)
}

/// The first directory of a `PATH` with both programs, symbolic links resolved: packages link single programs into
/// `/usr/bin`, and the rest of the version is where the link points.
fn in_path(path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).find_map(|directory| {
        let initdb = fs::canonicalize(directory.join("initdb")).ok()?;
        complete(initdb.parent()?).or_else(|| complete(&directory))
    })
}

/// `directory`, if both programs are in it.
fn complete(directory: &Path) -> Option<PathBuf> {
    let both = ["initdb", "postgres"]
        .iter()
        .all(|program| directory.join(program).is_file());
    both.then(|| directory.to_path_buf())
}

/// What `pg_config` says. It belongs to the client library, so the server's programs may be missing there.
fn bindir_of_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim()))
}

/// The newest complete version below `parent`.
fn newest(parent: &Path, prefix: &str, below: &str) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = major_version(name.strip_prefix(prefix)?);
            Some((version, complete(&entry.path().join(below))?))
        })
        .collect();
    versions.sort();
    versions.pop().map(|(_, directory)| directory)
}

/// `17` of `17`, `@17`, `17.2`; 0 when there is none.
fn major_version(name: &str) -> u32 {
    let digits: String = name
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .take(4)
        .collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn programs(directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        for program in ["initdb", "postgres"] {
            fs::write(directory.join(program), "").unwrap();
        }
    }

    #[test]
    fn newest_version_wins_by_number_not_by_text() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "17"] {
            programs(&root.path().join(version).join("bin"));
        }
        fs::create_dir_all(root.path().join("18/bin")).unwrap();
        assert_eq!(
            newest(root.path(), "", "bin"),
            Some(root.path().join("17/bin"))
        );
        assert_eq!(newest(&root.path().join("none"), "", "bin"), None);
    }

    #[test]
    fn a_link_in_the_path_leads_to_the_whole_version() {
        let root = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(root.path()).unwrap().join("15/bin");
        programs(&real);
        let linked = root.path().join("usr-bin");
        fs::create_dir(&linked).unwrap();
        symlink(real.join("initdb"), linked.join("initdb")).unwrap();
        assert_eq!(in_path(linked.as_os_str()), Some(real));
        assert_eq!(in_path(root.path().as_os_str()), None);
    }

    #[test]
    fn versions_are_read_out_of_names() {
        assert_eq!(
            [
                major_version("@17"),
                major_version("9.6"),
                major_version("latest")
            ],
            [17, 9, 0]
        );
    }
}
