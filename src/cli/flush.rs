//! `keyway flush`: running Keyways drop kept answers. They are told by the catalog, and say when they have.

use crate::catalog::Catalog;
use crate::cli::{Failure, FlushArguments, read_config};
use crate::config::Variables;
use crate::config::values::TableName;
use std::io::{self, Write};
use std::time::Duration;

/// How long running Keyways have to say that they have dropped them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Status 0 when all running Keyways have dropped them, 1 when one has not said so.
pub(super) fn flush(arguments: &FlushArguments, variables: &Variables) -> Result<(), Failure> {
    let config = read_config(&arguments.config, variables)?;
    let table = match &arguments.table {
        None => None,
        Some(text) => {
            let no_name = || Failure::Other(format!("{text:?} is no table's name"));
            Some(TableName::parse(text).ok_or_else(no_name)?)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let all_have = runtime.block_on(async {
        let (catalog, topology) = Catalog::open(&config).await?;
        if let Some(table) = &table {
            let mut databases = topology.databases.values();
            if !databases.any(|database| database.tables.contains_key(table)) {
                return Err(Failure::Other(format!(
                    "there is no table {table}; name it with its schema, unless that is public"
                )));
            }
        }
        catalog.flush(table.as_ref()).await?;
        Ok(catalog.wait_for_others(PATIENCE).await?)
    })?;
    if !all_have {
        return Err(Failure::Other(format!(
            "kept answers are to be dropped, but not all running Keyways have said so within {PATIENCE:?}"
        )));
    }
    let what = table.map_or_else(
        || "all kept answers".to_owned(),
        |table| format!("kept answers made of {table}"),
    );
    writeln!(io::stdout(), "{what} are dropped")?;
    Ok(())
}
