//! The ranges that sequences of sharded tables count in: one for each shard, so that no value is on two.

use crate::topology::TableName;

/// Values a bigint sequence has per shard: ids stay below 2^53, so that every client can hold them.
const WIDE_RANGE_BITS: u32 = 44;
/// Values an integer sequence has per shard.
const NARROW_RANGE_BITS: u32 = 22;
/// The highest stable id that ranges are cut for.
const STABLE_ID_MAX: u16 = 511;

/// What to do with sequences whose range is not the shard's.
pub(crate) enum Fix {
    /// Set it: the sequence is new.
    Set,
    /// Set it, unless the table has rows already, which would have taken equal values on every shard.
    SetIfEmpty(TableName),
    /// Fail.
    Check,
}

/// A condition on `pg_class c` that finds the sequences a table owns.
pub(crate) fn owned_by(table: &TableName) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.refobjid = {}::pg_catalog.regclass AND d.deptype IN ('a', 'i'))",
        quoted_name(&table.schema, &table.name)
    )
}

/// A condition on `pg_class c` that finds the sequences that any of these tables owns, as far as they exist.
pub(crate) fn owned_by_any<'t>(tables: impl Iterator<Item = &'t TableName>) -> String {
    let names = tables.map(|table| {
        format!(
            "pg_catalog.to_regclass({})",
            quoted_name(&table.schema, &table.name)
        )
    });
    let names: Vec<String> = names.collect();
    format!(
        "c.oid IN (SELECT d.objid FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.refobjid = ANY (ARRAY[{}]::pg_catalog.regclass[]) AND d.deptype IN ('a', 'i'))",
        names.join(", ")
    )
}

/// `'"schema"."name"'`
pub(crate) fn quoted_name(schema: &str, name: &str) -> String {
    literal(&format!("{}.{}", identifier(schema), identifier(name)))
}

/// `"name"`
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string that reads the same whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A DO block that gives the sequences which `which` finds, a condition on `pg_class c`, the range of the shard of that
/// stable id.
pub(crate) fn range_block(id: u16, which: &str, fix: &Fix) -> String {
    let id = id.min(STABLE_ID_MAX);
    let range = |bits: u32| {
        let low = (i64::from(id) << bits) + 1;
        (low, (i64::from(id) + 1) << bits)
    };
    let (wide_low, wide_high) = range(WIDE_RANGE_BITS);
    // The last range ends where integer does.
    let (narrow_low, narrow_end) = range(NARROW_RANGE_BITS);
    let narrow_high = narrow_end.min(i64::from(i32::MAX));
    // What sequences have by default (manual, CREATE SEQUENCE). The least bigint cannot be written without a cast.
    let (wide_least, wide_most) = (format!("(-{}-1)", i64::MAX), i64::MAX);
    let (narrow_least, narrow_most) = (i32::MIN, i32::MAX);
    let refuse = |message: &str| {
        format!(
            "RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = {}",
            literal(message)
        )
    };
    let refuse_options = format!(
        "{}, DETAIL = {}, HINT = {}",
        refuse(
            "START, MINVALUE, MAXVALUE and CYCLE of a sequence cannot be chosen on a sharded keyspace"
        ),
        literal("Each shard counts in a range of its own, so that no value is on two shards"),
        literal("Leave them out; INCREMENT and CACHE may be given.")
    );
    // Of a new sequence, what is not the default was asked for.
    let chosen = match fix {
        Fix::Check => "s.seqcycle",
        Fix::Set | Fix::SetIfEmpty(_) => {
            "s.seqcycle OR (s.seqmin, s.seqmax, s.seqstart) IS DISTINCT FROM (CASE WHEN s.up THEN 1 ELSE s.least END, \
             CASE WHEN s.up THEN s.most ELSE -1 END, CASE WHEN s.up THEN 1 ELSE -1 END)"
        }
    };
    // IF NOT EXISTS may have found one that has counted already.
    let skip = match fix {
        Fix::Set => "CONTINUE WHEN pg_catalog.pg_sequence_last_value(s.name) IS NOT NULL; ",
        Fix::SetIfEmpty(_) | Fix::Check => "",
    };
    let act = match fix {
        Fix::Check => refuse("the range of a sequence belongs to its shard"),
        Fix::Set | Fix::SetIfEmpty(_) => {
            "EXECUTE pg_catalog.format('ALTER SEQUENCE %s MINVALUE %s MAXVALUE %s START %s \
             RESTART %s', s.name, s.low, s.high, CASE WHEN s.up THEN s.low ELSE s.high END, \
             CASE WHEN s.up THEN s.low ELSE s.high END)"
                .to_owned()
        }
    };
    let guard = match fix {
        Fix::SetIfEmpty(table) => format!(
            "IF EXISTS (SELECT FROM {}.{}) THEN {}; END IF; ",
            identifier(&table.schema),
            identifier(&table.name),
            refuse("a sequence column cannot be added to a sharded table that has rows")
        ),
        Fix::Set | Fix::Check => String::new(),
    };
    format!(
        "DO $keyway$ DECLARE s record; BEGIN FOR s IN SELECT c.oid::pg_catalog.regclass AS name, q.seqincrement > 0 AS up, \
         r.low, r.high, r.least, r.most, q.seqtypid, q.seqmin, q.seqmax, q.seqstart, q.seqcycle FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid LEFT JOIN (VALUES ('int8'::pg_catalog.regtype, \
         {wide_low}::int8, {wide_high}::int8, {wide_least}::int8, {wide_most}::int8), ('int4', {narrow_low}, {narrow_high}, \
         {narrow_least}, {narrow_most})) r (type, low, high, least, most) ON r.type = q.seqtypid WHERE {which} AND \
         ((q.seqmin, q.seqmax) IS DISTINCT FROM (r.low, r.high) OR q.seqcycle) LOOP {skip}IF s.low IS NULL THEN {}; END IF; \
         IF ({chosen}) THEN {refuse_options}; END IF; {guard}{act}; END LOOP; END $keyway$",
        refuse("a smallint sequence cannot be divided among shards")
    )
}
