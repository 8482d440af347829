//! The triggers that keep the new parent in step.

use crate::catalog::quote;
use crate::partition::convert::design::{Design, TRIGGERS, function_name};
use crate::topology::ranges::literal;

impl Design<'_> {
    /// Makes the triggers that keep the new parent in step.
    pub(super) fn keep_in_step(&self) -> Vec<String> {
        let old = self.own();
        let function = function_name(self.facts.oid);
        // All columns, named: a column that a trigger names is not dropped or given another type by accident.
        let columns: Vec<String> = self.facts.columns.iter().map(|c| quote(&c.name)).collect();
        let [row, truncate] = TRIGGERS;
        vec![
            format!(
                "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
                 SET search_path = pg_catalog, pg_temp AS {}",
                literal(&self.function_body())
            ),
            format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
            format!(
                "CREATE TRIGGER {row} AFTER INSERT OR DELETE OR UPDATE OF {} ON {old} FOR EACH ROW EXECUTE FUNCTION {function}()",
                columns.join(", ")
            ),
            format!(
                "CREATE TRIGGER {truncate} AFTER TRUNCATE ON {old} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
            ),
            format!(
                "ALTER TABLE {old} ENABLE ALWAYS TRIGGER {row}, ENABLE ALWAYS TRIGGER {truncate}"
            ),
        ]
    }

    /// The new parent gets what the old table has now under the keys that were written, not what this event brought: events of
    /// statements inside statements come in another order than their writes.
    ///
    /// A transaction with a snapshot of its beginning may not see a row that was copied since. ON CONFLICT finds it nevertheless,
    /// and ends the transaction with a serialization failure (40001); so what is deleted and not seen is asked for that way.
    fn function_body(&self) -> String {
        let new = self.copy();
        let key = self.new_key();
        let written = self.facts.written();
        let list = |of: &str| {
            let columns: Vec<String> = written
                .iter()
                .map(|c| format!("{of}{}", quote(c)))
                .collect();
            columns.join(", ")
        };
        let is = |of: &str| {
            let parts: Vec<String> = key
                .iter()
                .map(|c| format!("t.{} {} {of}.{}", quote(&c.name), c.equal, quote(&c.name)))
                .collect();
            parts.join(" AND ")
        };
        let changed: Vec<String> = key
            .iter()
            .map(|c| format!("OLD.{0} {1} NEW.{0}", quote(&c.name), c.equal))
            .collect();
        let bring = |of: &str| {
            format!(
                "    {}\n    IF NOT FOUND THEN\n      DELETE FROM {new} t WHERE {};\n",
                self.bring(&format!("FROM ONLY {} t WHERE {}", self.own(), is(of))),
                is(of)
            )
        };
        let conflict = self.conflict_columns();
        format!(
            "BEGIN\n  \
               IF TG_OP = 'TRUNCATE' THEN\n    TRUNCATE {new};\n    RETURN NULL;\n  END IF;\n  \
               IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NOT ({})) THEN\n{}      \
                 IF NOT FOUND AND pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN\n        \
                   INSERT INTO {new} ({}) VALUES ({}) ON CONFLICT ({conflict}) DO NOTHING;\n        \
                   DELETE FROM {new} t WHERE {};\n      \
                 END IF;\n    \
                 END IF;\n  \
               END IF;\n  \
               IF TG_OP <> 'DELETE' THEN\n{}    END IF;\n  END IF;\n  \
               RETURN NULL;\nEND",
            changed.join(" AND "),
            bring("OLD"),
            list(""),
            list("OLD."),
            is("OLD"),
            bring("NEW"),
        )
    }

    /// Brings rows of the old table to the new parent, in place of what that has under their keys.
    fn bring(&self, from: &str) -> String {
        let written = self.facts.written();
        let columns: Vec<String> = written.iter().map(|column| quote(column)).collect();
        let of: Vec<String> = columns.iter().map(|column| format!("t.{column}")).collect();
        let set: Vec<String> = columns
            .iter()
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} {from} ON CONFLICT ({}) DO UPDATE SET {};",
            self.copy(),
            columns.join(", "),
            of.join(", "),
            self.conflict_columns(),
            set.join(", ")
        )
    }
}
