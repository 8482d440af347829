//! `keyway check`: prints what `catalog::check` found.

use crate::catalog::check::{Report, Severity, check as check_servers};
use crate::cli::{CheckArguments, Failure, read_config};
use crate::config::Variables;
use std::io::{self, IsTerminal, Write};

/// Status 0 when nothing is wrong (warnings allowed), 1 when something is, 64 when the configuration contradicts the
/// catalog.
pub(super) fn check(arguments: &CheckArguments, variables: &Variables) -> Result<(), Failure> {
    let config = read_config(&arguments.config, variables)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(check_servers(&config))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&mut out, &report, io::stdout().is_terminal())?;
    }
    match (report.contradicts, report.has_errors()) {
        (true, _) => Err(Failure::Status(64)),
        (false, true) => Err(Failure::Status(1)),
        (false, false) => Ok(()),
    }
}

/// One finding a paragraph, and a last line that sums up.
pub(super) fn print(out: &mut impl Write, report: &Report, colour: bool) -> io::Result<()> {
    let paint = |code: &str, text: &str| {
        if colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    for finding in &report.findings {
        let mark = match finding.severity {
            Severity::Error => paint("1;31", "error"),
            Severity::Warning => paint("1;33", "warning"),
            Severity::Note => paint("1;36", "note"),
        };
        writeln!(
            out,
            "{mark}: {}: {}",
            paint("1", &finding.place),
            finding.what
        )?;
        if let Some(hint) = &finding.hint {
            writeln!(out, "    hint: {hint}")?;
        }
    }
    for table in &report.lifted {
        writeln!(
            out,
            "{}: {table} is the same on all its shards again and may be used",
            paint("1;32", "lifted")
        )?;
    }
    let count = |severity| {
        report
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    writeln!(
        out,
        "{} servers reached, {} tables compared: {} errors, {} warnings",
        report.servers_reached,
        report.tables,
        count(Severity::Error),
        count(Severity::Warning)
    )
}
