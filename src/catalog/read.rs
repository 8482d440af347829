//! One shard's system catalogs → [`Schema`]. One read-only snapshot; names come back with their schemas, since control
//! connections have an empty search_path.

use crate::topology::schema::{
    ColumnFacts, Constraint, ConstraintKind, Policy, Relation, Routine, Rule, Schema,
    SequenceFacts, Trigger, TriggerEvent, TypedCall,
};
use crate::topology::{ImpliedBy, TableName};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use tokio_postgres::{Error, GenericClient, IsolationLevel, Row};

/// Schemas that are no user's: PostgreSQL's and Keyway's own.
const USER_NAMESPACE: &str =
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'keyway', 'pg_toast')
    AND n.nspname !~ '^pg_(toast_)?temp_'";

const DATABASE: &str = "
SELECT CASE coalesce(to_jsonb(d)->>'datlocprovider', 'c')
         WHEN 'c' THEN d.datcollate IN ('C', 'POSIX')
         WHEN 'b' THEN coalesce(to_jsonb(d)->>'datlocale', '') IN ('C', 'C.UTF-8', 'PG_UNICODE_FAST')
         ELSE false END,
       current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
       d.datcollate::text || coalesce(' (' || (to_jsonb(d)->>'datlocprovider') || ')', ''),
       pg_catalog.pg_encoding_to_char(d.encoding)::text, current_setting('server_version_num')::int,
       pg_catalog.pg_is_in_recovery(),
       EXISTS (SELECT FROM pg_catalog.pg_event_trigger v WHERE v.evtenabled <> 'D')
FROM pg_catalog.pg_database d WHERE d.datname = current_database()";

const RELATIONS: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relrowsecurity,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END,
       ARRAY(SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno),
       c.relpersistence::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ";

/// A default is a sequence's only when it is nextval and nothing more.
const COLUMNS: &str = "
WITH RECURSIVE base(oid, base, typmod) AS (
  SELECT t.oid, t.oid, -1 FROM pg_catalog.pg_type t WHERE t.typtype <> 'd'
  UNION ALL
  SELECT t.oid, b.base, CASE WHEN b.oid = b.base THEN t.typtypmod ELSE b.typmod END
  FROM pg_catalog.pg_type t JOIN base b ON t.typbasetype = b.oid WHERE t.typtype = 'd'
), sequences(relation, attribute, sequence) AS (
  SELECT d.refobjid, d.refobjsubid, d.objid
  FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
    AND d.deptype = 'i' AND d.refobjsubid > 0
  UNION
  SELECT ad.adrelid, ad.adnum, d.refobjid
  FROM pg_catalog.pg_attrdef ad
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = ad.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass
  JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
  WHERE pg_catalog.pg_get_expr(ad.adbin, ad.adrelid) ~ '^nextval\\(''[^'']*''::regclass\\)$'
)
SELECT a.attrelid, a.attname::text, a.atttypid, coalesce(b.base, a.atttypid),
       pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_catalog.pg_get_expr(ad.adbin, ad.adrelid),
       coalesce(nullif(a.attidentity::text, ''), nullif(a.attgenerated::text, '')),
       a.attcollation = 0 OR co.oid IS NULL OR co.collname = 'ucs_basic'
         OR (to_jsonb(co)->>'collprovider' = 'c' AND to_jsonb(co)->>'collcollate' IN ('C', 'POSIX')),
       a.attcollation <> 0 AND co.collname = 'default',
       coalesce((to_jsonb(co)->>'collisdeterministic')::boolean, true),
       sn.nspname::text, sc.relname::text, sq.seqmin, sq.seqmax, sq.seqincrement, sq.seqcycle,
       pg_catalog.format_type(coalesce(b.base, a.atttypid), CASE WHEN b.base <> a.atttypid THEN b.typmod ELSE a.atttypmod END)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN base b ON b.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
LEFT JOIN sequences s ON s.relation = a.attrelid AND s.attribute = a.attnum
LEFT JOIN pg_catalog.pg_sequence sq ON sq.seqrelid = s.sequence
LEFT JOIN pg_catalog.pg_class sc ON sc.oid = s.sequence
LEFT JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND ";

const CONSTRAINTS: &str = "
SELECT k.conrelid, k.conname::text, k.contype::text,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.place),
       coalesce(0 = ANY (k.conkey), false), pg_catalog.pg_get_constraintdef(k.oid),
       fn.nspname::text, f.relname::text,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.place),
       k.confupdtype::text, k.confdeltype::text
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class f ON f.oid = k.confrelid
LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.contype IN ('p', 'u', 'x', 'f', 'c') AND ";

const UNIQUE_INDEXES: &str = "
SELECT i.indrelid, x.relname::text, 'i',
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
             WHERE u.place <= i.indnkeyatts ORDER BY u.place),
       0 = ANY (i.indkey::int2[]), pg_catalog.pg_get_indexdef(i.indexrelid),
       NULL::text, NULL::text, ARRAY[]::text[], NULL::text, NULL::text
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                  WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) AND ";

/// Bits of pg_trigger.tgtype: 2 BEFORE, 64 INSTEAD OF. Keyway's own, which keep a copy of a table in step, change nothing that a
/// statement says. PostgreSQL's own are of foreign keys and constraints; an extension may hide others in the same way.
const TRIGGERS: &str = "
SELECT t.tgrelid, t.tgname::text, fn.nspname::text, f.proname::text,
       CASE WHEN t.tgtype & 64 <> 0 THEN 'i' WHEN t.tgtype & 2 <> 0 THEN 'b' ELSE 'a' END,
       pg_catalog.pg_get_triggerdef(t.oid), t.tgtype,
       ARRAY(SELECT pg_catalog.row_to_json(ROW(f.schema, f.name))->>p
             FROM called k JOIN fickle f ON f.oid = k.function
             CROSS JOIN (VALUES ('f1'), ('f2')) parts(p)
             WHERE k.class = 'pg_catalog.pg_trigger'::regclass AND k.object = t.oid AND f.oid <> t.tgfoid
             ORDER BY f.schema, f.name, f.oid, p)
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE (NOT t.tgisinternal OR fn.nspname <> 'pg_catalog') AND t.tgenabled <> 'D' AND fn.nspname <> 'keyway' AND ";

/// A view's own is the one for SELECT.
const RULES: &str = "
SELECT r.ev_class, r.rulename::text, r.ev_type::text
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (r.ev_type = '1' AND c.relkind IN ('v', 'm')) AND r.ev_enabled <> 'D' AND ";

/// A policy depends on its table whether or not a subquery reads that too; but only there is its name printed with the
/// schema. What every PostgreSQL has is in no pg_depend, so it is found by the text.
const POLICIES: &str = r"
SELECT l.polrelid, l.polname::text,
       pg_catalog.concat_ws(' ', CASE WHEN l.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, l.polcmd,
         (SELECT pg_catalog.string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE r::regrole::text END, ', ' ORDER BY r::regrole::text)
          FROM unnest(l.polroles) r), 'USING', x.used, 'WITH CHECK', x.checked),
       ARRAY(SELECT pg_catalog.row_to_json(ROW(n.nspname, c.relname))->>f
             FROM (SELECT d.refobjid FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = l.oid
                     AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> l.polrelid
                   UNION SELECT l.polrelid
                   WHERE pg_catalog.strpos(pg_catalog.concat_ws(' ', x.used, x.checked), l.polrelid::regclass::text) > 0) r(oid)
             JOIN pg_catalog.pg_class c ON c.oid = r.oid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN (VALUES ('f1'), ('f2')) parts(f)
             ORDER BY n.nspname, c.relname, f),
       ARRAY(SELECT pg_catalog.row_to_json(ROW(f.schema, f.name))->>p
             FROM called k JOIN fickle f ON f.oid = k.function
             CROSS JOIN (VALUES ('f1'), ('f2')) parts(p)
             WHERE k.class = 'pg_catalog.pg_policy'::regclass AND k.object = l.oid
             ORDER BY f.schema, f.name, f.oid, p),
       coalesce(pg_catalog.concat_ws(' ', x.used, x.checked) ~* '\m(from|join)\s+\(*\s*(only\s+)?(pg_|information_schema\.)', false)
         OR coalesce(pg_catalog.concat_ws(' ', x.used, x.checked) ~*
           '\m(current_database|current_catalog|random|gen_random_uuid|clock_timestamp|timeofday|inet_server_addr|inet_server_port|pg_backend_pid|nextval|currval|lastval|txid_[a-z_]+|ctid|tableoid|xmin|xmax|cmin|cmax)\M', false)
FROM pg_catalog.pg_policy l
CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(l.polqual, l.polrelid), pg_catalog.pg_get_expr(l.polwithcheck, l.polrelid)) x(used, checked)
JOIN pg_catalog.pg_class c ON c.oid = l.polrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE ";

/// Users' functions that are not IMMUTABLE. An extension's in C are left out: what runs by an operator or a default of an
/// extension (a similarity, a uuid) looks at settings and clocks, not at tables.
const FICKLE: &str = "
fickle(oid, schema, name, volatility) AS (
  SELECT p.oid, n.nspname::text, p.proname::text, p.provolatile::text
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE p.provolatile <> 'i'
    AND NOT (p.prolang = (SELECT l.oid FROM pg_catalog.pg_language l WHERE l.lanname = 'c')
             AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass
                         AND d.objid = p.oid AND d.deptype = 'e'))
    AND USERS
)";

/// What is called by a default, a CHECK, a domain, a policy or a trigger's WHEN, itself or by an operator; and which types a type is made of.
const CALLED: &str = "
called(class, object, function) AS (
  SELECT d.classid, d.objid, d.refobjid FROM pg_catalog.pg_depend d
  WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass
  UNION
  SELECT d.classid, d.objid, o.oprcode::oid
  FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_operator o ON o.oid = d.refobjid
  WHERE d.refclassid = 'pg_catalog.pg_operator'::regclass
), parts(type, part) AS (
  SELECT t.oid, t.oid FROM pg_catalog.pg_type t WHERE t.oid > 16383
  UNION
  SELECT p.type, x.part
  FROM parts p JOIN pg_catalog.pg_type t ON t.oid = p.part CROSS JOIN LATERAL (
    SELECT t.typbasetype UNION ALL SELECT t.typelem
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid) x(part)
  WHERE x.part > 16383
), typed(type, function) AS (
  SELECT p.type, c.function FROM parts p
  JOIN pg_catalog.pg_constraint k ON k.contypid = p.part
  JOIN called c ON c.class = 'pg_catalog.pg_constraint'::regclass AND c.object = k.oid
  UNION
  SELECT p.type, c.function FROM parts p
  JOIN called c ON c.class = 'pg_catalog.pg_type'::regclass AND c.object = p.part
)";

const OPERATORS: &str = "
SELECT DISTINCT o.oprname::text, f.schema, f.name
FROM pg_catalog.pg_operator o JOIN fickle f ON f.oid = o.oprcode::oid ORDER BY 1, 2, 3";

/// A cast counts for both its types: which one a statement names is not known.
const TYPED_CALLS: &str = "
SELECT DISTINCT pg_catalog.lower(x.name), f.schema, f.name, calls.by
FROM (
  SELECT y.type, y.function, CASE WHEN r.relkind <> 'c' THEN 'r' ELSE 'n' END
  FROM typed y LEFT JOIN pg_catalog.pg_class r ON r.reltype = y.type
  UNION ALL
  SELECT t.type, c.castfunc, CASE WHEN c.castcontext = 'e' THEN 'n' ELSE 'c' END
  FROM pg_catalog.pg_cast c CROSS JOIN LATERAL (VALUES (c.castsource), (c.casttarget)) t(type)
) calls(type, function, by)
JOIN fickle f ON f.oid = calls.function
JOIN pg_catalog.pg_type t ON t.oid = calls.type
CROSS JOIN LATERAL (VALUES (t.typname::text),
  (CASE WHEN t.oid < 16384 THEN pg_catalog.format_type(t.oid, NULL) ELSE t.typname::text END)) x(name)
ORDER BY 1, 2, 3, 4";

/// What a partition or a child runs, a write to what is above it runs too.
const RELATION_CALLS: &str = ",
above(relation, ancestor) AS (
  SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.oid > 16383
  UNION
  SELECT a.relation, i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.ancestor
)
SELECT DISTINCT above.ancestor, f.schema, f.name
FROM (
  SELECT ad.adrelid, c.function FROM pg_catalog.pg_attrdef ad
  JOIN called c ON c.class = 'pg_catalog.pg_attrdef'::regclass AND c.object = ad.oid
  UNION ALL
  SELECT k.conrelid, c.function FROM pg_catalog.pg_constraint k
  JOIN called c ON c.class = 'pg_catalog.pg_constraint'::regclass AND c.object = k.oid
  WHERE k.contype = 'c'
  UNION ALL
  SELECT a.attrelid, y.function FROM pg_catalog.pg_attribute a JOIN typed y ON y.type = a.atttypid
  WHERE a.attnum > 0 AND NOT a.attisdropped
) calls(relation, function)
JOIN above ON above.relation = calls.relation
JOIN fickle f ON f.oid = calls.function
ORDER BY 1, 2, 3";

/// An aggregate is called IMMUTABLE whatever its functions are.
const ROUTINES: &str = "
SELECT n.nspname::text, p.proname::text, pg_catalog.pg_get_function_identity_arguments(p.oid),
       coalesce((SELECT max(f.volatility) FROM pg_catalog.pg_aggregate a JOIN fickle f ON f.oid IN (a.aggtransfn,
         a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
         WHERE a.aggfnoid = p.oid), p.provolatile::text),
       p.prokind::text,
       CASE WHEN p.prokind <> 'a' THEN pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid)) END
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE ";

const TYPES: &str = "
SELECT CASE WHEN e.oid IS NULL THEN n.nspname || '.' || t.typname
            ELSE en.nspname || '.' || e.typname || '[]' END, t.oid
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type e ON e.typarray = t.oid
LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.typnamespace
WHERE t.oid > 16383 AND ";

const ATTACHED: &str = "
SELECT n.nspname::text, c.relname::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('i', 'I', 'S') AND ";

const ENUMS: &str = "
SELECT n.nspname || '.' || t.typname, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
FROM pg_catalog.pg_enum e
JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE ";

/// Sums over the row versions of everything that the other questions look at, so that any change of it shows. Of pg_class and
/// pg_index the columns that say what a relation is: TRUNCATE, REFRESH MATERIALIZED VIEW, REINDEX, CLUSTER and VACUUM FULL make new
/// versions that say only where it lies, and in what condition (manual, 53.11 and 53.26).
const FINGERPRINT: &str = "
WITH classes AS (
  SELECT c.oid, pg_catalog.md5(pg_catalog.row_to_json(ROW(c.relname, c.relnamespace, c.reltype, c.reloftype, c.relowner, c.relam,
      c.relisshared, c.relpersistence, c.relkind, c.relnatts, c.relchecks, c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
      c.relispartition, c.relacl, c.reloptions, c.relpartbound))::text) AS version
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND USERS
), versions(place, version) AS (
  SELECT 'c' || oid, version FROM classes
  UNION ALL SELECT 'a' || a.attrelid || ' ' || a.attnum, a.xmin::text FROM pg_catalog.pg_attribute a JOIN classes c ON c.oid = a.attrelid
  UNION ALL SELECT 'd' || d.oid, d.xmin::text FROM pg_catalog.pg_attrdef d JOIN classes c ON c.oid = d.adrelid
  UNION ALL SELECT 'k' || k.oid, k.xmin::text FROM pg_catalog.pg_constraint k JOIN classes c ON c.oid = k.conrelid
  UNION ALL SELECT 'x' || i.indexrelid, pg_catalog.md5(pg_catalog.row_to_json(ROW(i.indnatts, i.indnkeyatts, i.indisunique,
      i.indisprimary, i.indisexclusion, i.indimmediate, i.indisvalid, i.indisreplident, i.indkey, i.indcollation, i.indclass,
      i.indoption, i.indexprs, i.indpred))::text)
    FROM pg_catalog.pg_index i JOIN classes c ON c.oid = i.indrelid
  UNION ALL SELECT 't' || t.oid, t.xmin::text FROM pg_catalog.pg_trigger t JOIN classes c ON c.oid = t.tgrelid
  UNION ALL SELECT 'r' || r.oid, r.xmin::text FROM pg_catalog.pg_rewrite r JOIN classes c ON c.oid = r.ev_class
  UNION ALL SELECT 'l' || l.oid, l.xmin::text FROM pg_catalog.pg_policy l JOIN classes c ON c.oid = l.polrelid
  UNION ALL SELECT 'i' || i.inhrelid || ' ' || i.inhparent, i.xmin::text FROM pg_catalog.pg_inherits i JOIN classes c ON c.oid = i.inhrelid
  UNION ALL SELECT 's' || s.seqrelid, s.xmin::text FROM pg_catalog.pg_sequence s
            JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE USERS
  UNION ALL SELECT 'p' || p.oid, p.xmin::text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE USERS
  UNION ALL SELECT 'y' || t.oid, t.xmin::text FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
            WHERE t.oid > 16383 AND USERS
  UNION ALL SELECT 'n' || k.oid, k.xmin::text FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0 AND k.oid > 16383
  UNION ALL SELECT 'o' || o.oid, o.xmin::text FROM pg_catalog.pg_operator o WHERE o.oid > 16383
  UNION ALL SELECT 'q' || q.oid, q.xmin::text FROM pg_catalog.pg_cast q WHERE q.oid > 16383
  UNION ALL SELECT 'e' || e.oid, e.xmin::text FROM pg_catalog.pg_enum e
  UNION ALL SELECT 'v' || v.oid, v.xmin::text FROM pg_catalog.pg_event_trigger v
  UNION ALL SELECT 'h' || n.oid, n.nspname::text FROM pg_catalog.pg_namespace n WHERE USERS
)
SELECT coalesce(sum(pg_catalog.hashtextextended(place || ' ' || version, 0)), 0)::text FROM versions";

/// Versions that have run; no runner has been where the table is missing.
pub(super) async fn migrations(
    client: &impl GenericClient,
) -> Result<Vec<(String, String)>, Error> {
    let there = "SELECT pg_catalog.to_regclass('keyway.migrations') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let sql = "SELECT keyspace, key FROM keyway.migrations
               WHERE kind IN ('version', 'baseline') AND finished IS NOT NULL AND direction = 'up' ORDER BY 1, 2";
    let mut versions = Vec::new();
    for row in client.query(sql, &[]).await? {
        versions.push((row.try_get(0)?, row.try_get(1)?));
    }
    Ok(versions)
}

/// What [`Schema::fingerprint`] would be now.
pub(super) async fn fingerprint(client: &impl GenericClient) -> Result<String, Error> {
    let sql = FINGERPRINT.replace("USERS", USER_NAMESPACE);
    let catalogs: String = client.query_one(&sql, &[]).await?.try_get(0)?;
    let mut versions = DefaultHasher::new();
    migrations(client).await?.hash(&mut versions);
    Ok(format!("{catalogs} {:x}", versions.finish()))
}

/// Reads one shard's schema. `pg_get_viewdef` and its like look at the catalogs as they are now, not as the snapshot has
/// them: of what somebody drops meanwhile they say NULL, and it is left out.
pub(super) async fn schema(client: &mut tokio_postgres::Client) -> Result<Schema, Error> {
    let reading = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let user = |sql: &str, order: &str| format!("{sql}{USER_NAMESPACE} ORDER BY {order}");
    let mut schema = Schema::default();
    if let Some(row) = reading.query_opt(DATABASE, &[]).await? {
        schema.collation_is_c = row.try_get(0)?;
        schema.connections_max = row.try_get(1)?;
        schema.collation = row.try_get(2)?;
        schema.encoding = row.try_get(3)?;
        schema.version = row.try_get(4)?;
        schema.in_recovery = row.try_get(5)?;
        schema.event_triggers = row.try_get(6)?;
    }

    let mut places: HashMap<u32, usize> = HashMap::new();
    let mut parents: Vec<Vec<u32>> = Vec::new();
    for row in reading.query(&user(RELATIONS, "2, 3"), &[]).await? {
        let kind = letter(&row, 3)?.unwrap_or('r');
        let view: Option<String> = row.try_get(5)?;
        if matches!(kind, 'v' | 'm') && view.is_none() {
            continue;
        }
        places.insert(row.try_get(0)?, schema.relations.len());
        parents.push(row.try_get(6)?);
        schema.relations.push(Relation {
            name: TableName {
                schema: row.try_get(1)?,
                name: row.try_get(2)?,
            },
            kind,
            persistence: letter(&row, 7)?.unwrap_or('?'),
            columns: Vec::new(),
            constraints: Vec::new(),
            triggers: Vec::new(),
            rules: Vec::new(),
            view,
            row_security: row.try_get(4)?,
            policies: Vec::new(),
            parents: Vec::new(),
            calls: Vec::new(),
        });
    }
    let names: Vec<TableName> = schema
        .relations
        .iter()
        .map(|relation| relation.name.clone())
        .collect();
    for (relation, parents) in schema.relations.iter_mut().zip(parents) {
        relation.parents = parents
            .iter()
            .filter_map(|oid| names.get(*places.get(oid)?).cloned())
            .collect();
    }

    for row in reading
        .query(&user(COLUMNS, "a.attrelid, a.attnum"), &[])
        .await?
    {
        let column = column(&row, schema.collation_is_c)?;
        if let Some(relation) = relation(&mut schema, &places, &row)? {
            // Two sequences behind one column cannot be told apart; neither counts.
            match relation.columns.last_mut() {
                Some(last) if last.name == column.name => last.sequence = None,
                _ => relation.columns.push(column),
            }
        }
    }
    for sql in [user(CONSTRAINTS, "1, 2"), user(UNIQUE_INDEXES, "1, 2")] {
        for row in reading.query(&sql, &[]).await? {
            if let (Some(constraint), Some(relation)) =
                (constraint(&row)?, relation(&mut schema, &places, &row)?)
            {
                relation.constraints.push(constraint);
            }
        }
    }
    for row in reading.query(&user(RULES, "1, 2"), &[]).await? {
        let rule = Rule {
            name: row.try_get(1)?,
            event: letter(&row, 2)?.unwrap_or('1'),
        };
        if let Some(relation) = relation(&mut schema, &places, &row)? {
            relation.rules.push(rule);
        }
    }
    let fickle = FICKLE.replace("USERS", USER_NAMESPACE);
    let routines = format!("WITH {fickle} {}", user(ROUTINES, "1, 2, 3"));
    for row in reading.query(&routines, &[]).await? {
        let Some(arguments) = row.try_get(2)? else {
            continue;
        };
        schema.routines.push(Routine {
            name: TableName {
                schema: row.try_get(0)?,
                name: row.try_get(1)?,
            },
            arguments,
            volatility: letter(&row, 3)?.unwrap_or('v'),
            kind: letter(&row, 4)?.unwrap_or('f'),
            definition_md5: row.try_get(5)?,
        });
    }
    for row in reading
        .query(&format!("WITH {fickle} {OPERATORS}"), &[])
        .await?
    {
        schema.operators.push((row.try_get(0)?, named(&row)?));
    }
    let called = format!("WITH RECURSIVE {fickle}, {CALLED}");
    for row in reading
        .query(&format!("{called} {TYPED_CALLS}"), &[])
        .await?
    {
        schema.typed_calls.push(TypedCall {
            type_name: row.try_get(0)?,
            function: named(&row)?,
            by: match letter(&row, 3)? {
                Some('c') => ImpliedBy::Column,
                Some('r') => ImpliedBy::Cast,
                _ => ImpliedBy::Name,
            },
        });
    }
    for row in reading
        .query(&format!("{called} {RELATION_CALLS}"), &[])
        .await?
    {
        let function = named(&row)?;
        if let Some(relation) = relation(&mut schema, &places, &row)? {
            relation.calls.push(function);
        }
    }
    let triggers = format!("{called} {}", user(TRIGGERS, "1, 2"));
    for row in reading.query(&triggers, &[]).await? {
        let Some(definition) = row.try_get(5)? else {
            continue;
        };
        let trigger = Trigger {
            name: row.try_get(1)?,
            function: TableName {
                schema: row.try_get(2)?,
                name: row.try_get(3)?,
            },
            timing: match letter(&row, 4)? {
                Some('b') => "BEFORE",
                Some('i') => "INSTEAD OF",
                _ => "AFTER",
            },
            events: TriggerEvent::of_bits(row.try_get(6)?),
            calls: paired(row.try_get(7)?),
            definition,
        };
        if let Some(relation) = relation(&mut schema, &places, &row)? {
            relation.triggers.push(trigger);
        }
    }
    let policies = format!("{called} {}", user(POLICIES, "1, 2"));
    for row in reading.query(&policies, &[]).await? {
        let policy = Policy {
            name: row.try_get(1)?,
            definition: row.try_get(2)?,
            reads: paired(row.try_get(3)?),
            calls: paired(row.try_get(4)?),
            of_server: row.try_get(5)?,
        };
        if let Some(relation) = relation(&mut schema, &places, &row)? {
            relation.policies.push(policy);
        }
    }
    for row in reading.query(&user(TYPES, "1"), &[]).await? {
        schema.types.push((row.try_get(0)?, row.try_get(1)?));
    }
    for row in reading.query(&user(ATTACHED, "1, 2"), &[]).await? {
        schema.attached.push(TableName {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
        });
    }
    let enums = format!("{ENUMS}{USER_NAMESPACE} GROUP BY 1 ORDER BY 1");
    for row in reading.query(&enums, &[]).await? {
        schema.enums.push((row.try_get(0)?, row.try_get(1)?));
    }
    schema.fingerprint = fingerprint(&reading).await?;
    reading.commit().await?;
    Ok(schema)
}

/// The relation that the row's first column names by OID.
fn relation<'s>(
    schema: &'s mut Schema,
    places: &HashMap<u32, usize>,
    row: &Row,
) -> Result<Option<&'s mut Relation>, Error> {
    let oid: u32 = row.try_get(0)?;
    Ok(places
        .get(&oid)
        .and_then(|place| schema.relations.get_mut(*place)))
}

/// A name in the second and third columns.
fn named(row: &Row) -> Result<TableName, Error> {
    Ok(TableName {
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
    })
}

/// Names given as schema, name, schema, name …
fn paired(parts: Vec<String>) -> Vec<TableName> {
    let mut parts = parts.into_iter();
    let mut names = Vec::new();
    while let (Some(schema), Some(name)) = (parts.next(), parts.next()) {
        names.push(TableName { schema, name });
    }
    names
}

fn letter(row: &Row, index: usize) -> Result<Option<char>, Error> {
    let text: Option<String> = row.try_get(index)?;
    Ok(text.and_then(|text| text.chars().next()))
}

fn column(row: &Row, database_is_c: bool) -> Result<ColumnFacts, Error> {
    let sequence_name: Option<String> = row.try_get(12)?;
    let sequence = match sequence_name {
        Some(name) => Some(SequenceFacts {
            name: TableName {
                schema: row.try_get(11)?,
                name,
            },
            min: row.try_get(13)?,
            max: row.try_get(14)?,
            increment: row.try_get(15)?,
            cycle: row.try_get(16)?,
        }),
        None => None,
    };
    let of_database: Option<bool> = row.try_get(9)?;
    Ok(ColumnFacts {
        name: row.try_get(1)?,
        type_oid: row.try_get(2)?,
        base_oid: row.try_get(3)?,
        type_name: row.try_get(4)?,
        stored_as: row.try_get(17)?,
        not_null: row.try_get(5)?,
        default: row.try_get(6)?,
        generated: letter(row, 7)?,
        collation_is_c: if of_database == Some(true) {
            database_is_c
        } else {
            row.try_get(8)?
        },
        deterministic: row.try_get(10)?,
        sequence,
    })
}

fn constraint(row: &Row) -> Result<Option<Constraint>, Error> {
    let definition: Option<String> = row.try_get(5)?;
    let Some(definition) = definition else {
        return Ok(None);
    };
    let kind = match letter(row, 2)? {
        Some('p') => ConstraintKind::Primary,
        Some('u') => ConstraintKind::Unique,
        Some('i') => ConstraintKind::UniqueIndex,
        Some('x') => ConstraintKind::Exclusion,
        Some('f') => ConstraintKind::Foreign {
            table: TableName {
                schema: row.try_get(6)?,
                name: row.try_get(7)?,
            },
            columns: row.try_get(8)?,
            on_update: letter(row, 9)?.unwrap_or('a'),
            on_delete: letter(row, 10)?.unwrap_or('a'),
        },
        _ => ConstraintKind::Check,
    };
    Ok(Some(Constraint {
        name: row.try_get(1)?,
        kind,
        columns: row.try_get(3)?,
        expressions: row.try_get(4)?,
        definition,
    }))
}
