//! The questions to a shard's own catalogs, each about one table by its OID, under an empty search_path: names that are printed have
//! their schemas.

/// The table.
pub(super) const TABLE: &str = "
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text, s.spcname::text, c.relreplident::text,
       ARRAY(SELECT o FROM unnest(c.reloptions) o UNION ALL SELECT 'toast.' || o FROM unnest(t.reloptions) o),
       c.reltuples::int8
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
WHERE c.oid = $1";

/// Its columns.
pub(super) const COLUMNS: &str = "
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '',
       pg_catalog.concat_ws(' ', a.attidentity, a.attgenerated, a.attstorage, a.attcompression, l.oid::regcollation::text,
         pg_catalog.pg_get_expr(d.adbin, d.adrelid)),
       nullif(a.attstattarget::int4, -1), coalesce(a.attoptions, '{}')
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// The primary key's columns, with the operators of its order: strategies 3 and 5 of btree.
pub(super) const KEY: &str = "
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), e.shown, g.shown
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY k(attnum, class, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_catalog.pg_opclass c ON c.oid = k.class
CROSS JOIN LATERAL (SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
  FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
  JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
  WHERE m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
    AND m.amopstrategy = 3) e(shown)
CROSS JOIN LATERAL (SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
  FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
  JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
  WHERE m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
    AND m.amopstrategy = 5) g(shown)
WHERE i.indrelid = $1 AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place";

/// Its constraints. A constraint trigger is found as a trigger.
pub(super) const CONSTRAINTS: &str = "
SELECT k.conname::text, k.contype::text, pg_catalog.pg_get_constraintdef(k.oid),
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.place),
       k.condeferrable, k.condeferred,
       CASE WHEN k.contype IN ('p', 'u', 'x') THEN coalesce(x.reloptions, '{}') ELSE '{}' END
FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class x ON x.oid = k.conindid
WHERE k.conrelid = $1 AND k.contype IN ('p', 'u', 'x', 'f', 'c') AND k.conparentid = 0
ORDER BY k.contype = 'f', k.contype <> 'p', k.conname";

/// Its indexes that are no constraint's.
pub(super) const INDEXES: &str = "
SELECT c.relname::text, i.indisunique,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
             WHERE u.place <= i.indnkeyatts ORDER BY u.place),
       CASE WHEN pg_catalog.starts_with(pg_catalog.pg_get_indexdef(c.oid), p.prefix)
            THEN pg_catalog.substr(pg_catalog.pg_get_indexdef(c.oid), pg_catalog.length(p.prefix) + 1) END
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
CROSS JOIN LATERAL (SELECT pg_catalog.format('CREATE %sINDEX %I ON %s USING ', CASE WHEN i.indisunique THEN 'UNIQUE ' END,
  c.relname, i.indrelid::regclass)) p(prefix)
WHERE i.indrelid = $1
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY 1";

/// Identity columns.
pub(super) const IDENTITIES: &str = "
SELECT a.attname::text, n.nspname::text, c.relname::text,
       pg_catalog.format('GENERATED %s AS IDENTITY (SEQUENCE NAME %I.%I START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s%s)',
         CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, n.nspname, c.relname,
         q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, CASE WHEN q.seqcycle THEN ' CYCLE' END)
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
  AND d.refobjid = $1 AND d.deptype = 'i' ORDER BY a.attnum";

/// Sequences that are owned by columns.
pub(super) const SERIALS: &str = "
SELECT a.attname::text, n.nspname::text, c.relname::text, ''
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
  AND d.refobjid = $1 AND d.deptype = 'a' ORDER BY a.attnum, 3";

/// Extended statistics.
pub(super) const STATISTICS: &str = "
SELECT n.nspname::text, s.stxname::text FROM pg_catalog.pg_statistic_ext s
JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = $1 ORDER BY 1, 2";

/// Each row is a reason why the table cannot be converted, with what to do about it.
pub(super) const OBSTACLES: &[&str] = &[
    // The table itself.
    "
SELECT w.why FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
JOIN pg_catalog.pg_roles me ON me.rolname = current_user
CROSS JOIN LATERAL (VALUES
  (c.relpersistence <> 'p', 'it is UNLOGGED or TEMPORARY, which a partitioned table cannot be: ALTER TABLE … SET LOGGED first'),
  (c.relispartition, 'it is a partition of another table'),
  (n.nspname IN ('keyway', 'information_schema') OR n.nspname LIKE 'pg\\_%', 'it belongs to the system'),
  (m.amname <> 'heap', 'its access method is ' || m.amname || ', not heap'),
  (c.reloftype <> 0, 'it is a typed table (OF): ALTER TABLE … NOT OF first'),
  (NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
    'it has no primary key, by which rows are kept in step: add one first'),
  (c.relreplident = 'i', 'its replica identity is an index: ALTER TABLE … REPLICA IDENTITY DEFAULT (or FULL) first'),
  (NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'),
    pg_catalog.format('role %I must own it, or inherit from its owner %I', current_user, pg_catalog.pg_get_userbyid(c.relowner))),
  (NOT pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
    pg_catalog.format('role %I may not create tables in schema %I', current_user, n.nspname)),
  (NOT pg_catalog.has_schema_privilege(c.relowner, n.oid, 'CREATE'),
    pg_catalog.format('its owner %I may not create tables in schema %I', pg_catalog.pg_get_userbyid(c.relowner), n.nspname)),
  (c.relforcerowsecurity AND NOT (me.rolsuper OR me.rolbypassrls),
    pg_catalog.format('FORCE ROW LEVEL SECURITY hides rows from role %I: give it BYPASSRLS, or NO FORCE first', current_user)),
  (NOT EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname = 'plpgsql'),
    'the database has no plpgsql: CREATE EXTENSION plpgsql first')
) w(is_so, why) WHERE c.oid = $1 AND w.is_so",
    // Inheritance.
    "
SELECT CASE WHEN i.inhrelid = $1 THEN 'it inherits from ' || i.inhparent::regclass ELSE i.inhrelid::regclass || ' inherits from it' END
       || ': ALTER TABLE … NO INHERIT first'
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = $1
WHERE (i.inhrelid = $1 OR i.inhparent = $1) AND NOT c.relispartition ORDER BY 1",
    // Columns.
    "
SELECT pg_catalog.format('column %I is inherited', a.attname) FROM pg_catalog.pg_attribute a
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attinhcount > 0 ORDER BY 1",
    // Constraints.
    "
SELECT pg_catalog.format('constraint %I ', k.conname) || w.why FROM pg_catalog.pg_constraint k
CROSS JOIN LATERAL (VALUES
  (k.contype = 'x', 'excludes rows, which a partitioned table cannot: drop it first'),
  (NOT k.convalidated, 'is NOT VALID: VALIDATE CONSTRAINT first'),
  (k.contype = 'c' AND k.connoinherit, 'is NO INHERIT, which a partitioned table cannot have: drop it first'),
  (k.contype IN ('p', 'u') AND k.condeferrable,
    'is DEFERRABLE, and rows cannot be kept in step while it is violated: make it NOT DEFERRABLE first'),
  (k.contype = 'f' AND k.confrelid = k.conrelid, 'refers to the table itself: drop it first, add it again afterwards')
) w(is_so, why) WHERE k.conrelid = $1 AND w.is_so ORDER BY 1",
    "
SELECT pg_catalog.format('foreign key %I of %s refers to it: drop it first, add it again afterwards, if it refers to all columns of a key \
then', k.conname, k.conrelid::regclass)
FROM pg_catalog.pg_constraint k
WHERE k.confrelid = $1 AND k.conrelid <> $1 AND k.contype = 'f' AND k.conparentid = 0 ORDER BY 1",
    // Indexes.
    "
SELECT pg_catalog.format('index %I ', c.relname) || w.why FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
CROSS JOIN LATERAL (VALUES
  (NOT i.indisvalid OR NOT i.indisready, 'is not valid: drop it or build it anew first'),
  (i.indisclustered, 'is the one to CLUSTER by, which a partitioned table cannot have: ALTER TABLE … SET WITHOUT CLUSTER first'),
  (c.reltablespace <> (SELECT t.reltablespace FROM pg_catalog.pg_class t WHERE t.oid = i.indrelid),
    'is in another tablespace than its table: ALTER INDEX … SET TABLESPACE first'),
  (EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND coalesce(a.attstattarget, -1) <> -1),
    'has a statistics target of its own: ALTER INDEX … ALTER COLUMN … SET STATISTICS -1 first'),
  (NOT pg_catalog.starts_with(pg_catalog.pg_get_indexdef(c.oid), pg_catalog.format('CREATE %sINDEX %I ON %s USING ',
    CASE WHEN i.indisunique THEN 'UNIQUE ' END, c.relname, i.indrelid::regclass)), 'has a definition that is not understood: drop it first')
) w(is_so, why) WHERE i.indrelid = $1 AND w.is_so ORDER BY 1",
    // Triggers.
    "
SELECT pg_catalog.format('trigger %I is FOR EACH ROW and names transition tables, which a partitioned table cannot have', t.tgname)
FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgtype & 1 <> 0 AND (t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL)
ORDER BY 1",
    // Replication.
    "
SELECT pg_catalog.format('publication %I publishes it, and its subscribers do not have the partitions: take it out first', p.pubname)
FROM pg_catalog.pg_publication_tables p
JOIN pg_catalog.pg_class c ON c.relname = p.tablename
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = p.schemaname
WHERE c.oid = $1 ORDER BY 1",
    "
SELECT 'a subscription writes it: take it out of the publication it follows first'
FROM pg_catalog.pg_subscription_rel r WHERE r.srrelid = $1 LIMIT 1",
    // Grants.
    "
SELECT DISTINCT pg_catalog.format('a privilege of %s was granted by %I, who is not its owner: grant it again as the owner, and revoke that one',
  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, pg_catalog.pg_get_userbyid(a.grantor))
FROM (
  SELECT c.relowner, c.relacl FROM pg_catalog.pg_class c WHERE c.oid = $1
  UNION ALL SELECT c.relowner, t.attacl FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid WHERE c.oid = $1
  UNION ALL SELECT s.relowner, s.relacl FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1 AND d.deptype = 'i'
    AND s.relkind = 'S'
) o(owner, acl) CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a WHERE a.grantor <> o.owner ORDER BY 1",
    // Rules, and everything else that depends on the table or its row type and is not part of it.
    "
WITH own(class, object) AS (
  SELECT 'pg_catalog.pg_attrdef'::regclass, oid FROM pg_catalog.pg_attrdef WHERE adrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, oid FROM pg_catalog.pg_constraint WHERE conrelid = $1 OR confrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid FROM pg_catalog.pg_index WHERE indrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_class'::regclass, reltoastrelid FROM pg_catalog.pg_class WHERE oid = $1
  UNION ALL SELECT 'pg_catalog.pg_class'::regclass, inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = $1
  UNION ALL SELECT 'pg_catalog.pg_class'::regclass, d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1
      AND d.deptype IN ('a', 'i') AND s.relkind = 'S'
  UNION ALL SELECT 'pg_catalog.pg_trigger'::regclass, oid FROM pg_catalog.pg_trigger WHERE tgrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_policy'::regclass, oid FROM pg_catalog.pg_policy WHERE polrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::regclass, oid FROM pg_catalog.pg_statistic_ext WHERE stxrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_publication_rel'::regclass, oid FROM pg_catalog.pg_publication_rel WHERE prrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid FROM pg_catalog.pg_type WHERE typrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_type'::regclass, t.typarray FROM pg_catalog.pg_type t WHERE t.typrelid = $1
), things(class, object) AS (
  SELECT 'pg_catalog.pg_class'::regclass, $1::oid
  UNION ALL SELECT class, object FROM own WHERE class = 'pg_catalog.pg_type'::regclass
), other AS (
  SELECT DISTINCT CASE WHEN d.classid = 'pg_catalog.pg_rewrite'::regclass THEN 'pg_catalog.pg_class'::regclass::oid ELSE d.classid END AS classid,
         CASE WHEN d.classid = 'pg_catalog.pg_rewrite'::regclass THEN r.ev_class ELSE d.objid END AS objid,
         CASE WHEN d.classid = 'pg_catalog.pg_rewrite'::regclass THEN 0 ELSE d.objsubid END AS objsubid,
         CASE WHEN r.ev_class = $1 THEN r.rulename::text END AS rule
  FROM pg_catalog.pg_depend d
  JOIN things t ON t.class = d.refclassid AND t.object = d.refobjid
  LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid
  WHERE NOT EXISTS (SELECT FROM own o WHERE o.class = d.classid AND o.object = d.objid)
    AND NOT (d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = $1)
)
SELECT CASE WHEN rule IS NOT NULL THEN pg_catalog.format('rule %I rewrites statements on it: drop it first', rule)
            ELSE pg_catalog.pg_describe_object(classid, objid, objsubid) || ' depends on it, and would go on with the old table: drop it first, \
create it again afterwards' END
FROM other ORDER BY 1",
    // What depends on the sequence of an identity column, which is made anew.
    "
SELECT pg_catalog.pg_describe_object(e.classid, e.objid, e.objsubid) || ' uses sequence ' || s.oid::regclass
       || ', which belongs to an identity column and is made anew: drop it first'
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_catalog.pg_depend e ON e.refclassid = 'pg_catalog.pg_class'::regclass AND e.refobjid = s.oid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1
  AND d.deptype = 'i' ORDER BY 1",
    // Extensions and labels.
    "
SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) || ' belongs to or depends on '
       || pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0)
FROM pg_catalog.pg_depend d WHERE d.deptype IN ('e', 'x') AND (d.classid, d.objid) IN (
  SELECT 'pg_catalog.pg_class'::regclass, $1::oid
  UNION ALL SELECT 'pg_catalog.pg_trigger'::regclass, oid FROM pg_catalog.pg_trigger WHERE tgrelid = $1
  UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid FROM pg_catalog.pg_index WHERE indrelid = $1) ORDER BY 1",
    "
SELECT pg_catalog.format('it has a security label of %s, which is not carried over', l.provider)
FROM pg_catalog.pg_seclabel l WHERE l.classoid = 'pg_catalog.pg_class'::regclass AND l.objoid = $1 ORDER BY 1",
];

/// Each row is a statement that says again, of the new table by the old one's name, what was said of the old one.
pub(super) const DRESS: &[&str] = &[
    // ALTER DEFAULT PRIVILEGES may have given what nobody gave to the old one.
    "
SELECT pg_catalog.format('DO $keyway$ DECLARE r record; BEGIN FOR r IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN ''PUBLIC'' \
ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee FROM pg_catalog.pg_class c, \
pg_catalog.aclexplode(c.relacl) a WHERE c.oid = %L::pg_catalog.regclass AND (a.grantee <> c.relowner OR %L::boolean) LOOP \
EXECUTE ''REVOKE ALL ON TABLE '' || %L || '' FROM '' || r.grantee; END LOOP; END $keyway$',
  c.oid::regclass, c.relacl IS NOT NULL, c.oid::regclass)
FROM pg_catalog.pg_class c WHERE c.oid = $1",
    "
SELECT pg_catalog.format('GRANT %s ON TABLE %s TO %s%s', pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), c.oid::regclass,
  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
WHERE c.oid = $1 GROUP BY c.oid, a.grantee, a.is_grantable ORDER BY 1",
    "
SELECT pg_catalog.format('GRANT %s (%I) ON TABLE %s TO %s%s', a.privilege_type, t.attname, t.attrelid::regclass,
  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
FROM pg_catalog.pg_attribute t CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a
WHERE t.attrelid = $1 AND NOT t.attisdropped ORDER BY 1",
    // The sequences of identity columns.
    "
SELECT pg_catalog.format('DO $keyway$ DECLARE r record; BEGIN FOR r IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN ''PUBLIC'' \
ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee FROM pg_catalog.pg_class c, \
pg_catalog.aclexplode(c.relacl) a WHERE c.oid = %L::pg_catalog.regclass AND (a.grantee <> c.relowner OR %L::boolean) LOOP \
EXECUTE ''REVOKE ALL ON SEQUENCE '' || %L || '' FROM '' || r.grantee; END LOOP; END $keyway$',
  c.oid::regclass, c.relacl IS NOT NULL, c.oid::regclass)
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1 AND d.deptype = 'i'",
    "
SELECT pg_catalog.format('GRANT %s ON SEQUENCE %s TO %s%s', pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), c.oid::regclass,
  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1 AND d.deptype = 'i'
GROUP BY c.oid, a.grantee, a.is_grantable ORDER BY 1",
    // Triggers, but for Keyway's own.
    "
SELECT pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND f.pronamespace <> 'keyway'::regnamespace ORDER BY t.oid",
    "
SELECT pg_catalog.format('ALTER TABLE %s %s TRIGGER %I', t.tgrelid::regclass,
  CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname)
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgenabled <> 'O' AND f.pronamespace <> 'keyway'::regnamespace ORDER BY t.oid",
    // Row security.
    "
SELECT pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', l.polname, l.polrelid::regclass,
  CASE WHEN l.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
  CASE l.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
  (SELECT pg_catalog.string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r)) END, ', ')
   FROM unnest(l.polroles) r),
  ' USING (' || pg_catalog.pg_get_expr(l.polqual, l.polrelid) || ')',
  ' WITH CHECK (' || pg_catalog.pg_get_expr(l.polwithcheck, l.polrelid) || ')')
FROM pg_catalog.pg_policy l WHERE l.polrelid = $1 ORDER BY l.oid",
    "
SELECT pg_catalog.format('ALTER TABLE %s %s ROW LEVEL SECURITY', c.oid::regclass, w.word)
FROM pg_catalog.pg_class c CROSS JOIN LATERAL (VALUES (c.relrowsecurity, 'ENABLE'), (c.relforcerowsecurity, 'FORCE')) w(is_so, word)
WHERE c.oid = $1 AND w.is_so",
    // Extended statistics.
    "
SELECT pg_catalog.pg_get_statisticsobjdef(s.oid) FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = $1 ORDER BY s.oid",
    "
SELECT pg_catalog.format('ALTER STATISTICS %I.%I OWNER TO %I', n.nspname, s.stxname, pg_catalog.pg_get_userbyid(s.stxowner))
FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = $1",
    "
SELECT pg_catalog.format('ALTER STATISTICS %I.%I SET STATISTICS %s', n.nspname, s.stxname, s.stxstattarget)
FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
WHERE s.stxrelid = $1 AND s.stxstattarget >= 0",
    // Comments.
    "
SELECT CASE WHEN d.objsubid = 0 THEN pg_catalog.format('COMMENT ON TABLE %s IS %L', d.objoid::regclass, d.description)
            ELSE pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', d.objoid::regclass, a.attname, d.description) END
FROM pg_catalog.pg_description d LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = $1 ORDER BY d.objsubid",
    "
SELECT pg_catalog.format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, k.conrelid::regclass, d.description)
FROM pg_catalog.pg_description d JOIN pg_catalog.pg_constraint k ON k.oid = d.objoid
WHERE d.classoid = 'pg_catalog.pg_constraint'::regclass AND k.conrelid = $1 ORDER BY 1",
    "
SELECT pg_catalog.format('COMMENT ON INDEX %s IS %L', i.indexrelid::regclass, d.description)
FROM pg_catalog.pg_description d JOIN pg_catalog.pg_index i ON i.indexrelid = d.objoid
WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND i.indrelid = $1 ORDER BY 1",
    "
SELECT pg_catalog.format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, t.tgrelid::regclass, d.description)
FROM pg_catalog.pg_description d JOIN pg_catalog.pg_trigger t ON t.oid = d.objoid
WHERE d.classoid = 'pg_catalog.pg_trigger'::regclass AND t.tgrelid = $1 AND NOT t.tgisinternal ORDER BY 1",
    "
SELECT pg_catalog.format('COMMENT ON POLICY %I ON %s IS %L', l.polname, l.polrelid::regclass, d.description)
FROM pg_catalog.pg_description d JOIN pg_catalog.pg_policy l ON l.oid = d.objoid
WHERE d.classoid = 'pg_catalog.pg_policy'::regclass AND l.polrelid = $1 ORDER BY 1",
    "
SELECT pg_catalog.format('COMMENT ON STATISTICS %I.%I IS %L', n.nspname, s.stxname, d.description)
FROM pg_catalog.pg_description d JOIN pg_catalog.pg_statistic_ext s ON s.oid = d.objoid
JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
WHERE d.classoid = 'pg_catalog.pg_statistic_ext'::regclass AND s.stxrelid = $1 ORDER BY 1",
    "
SELECT pg_catalog.format('COMMENT ON SEQUENCE %s IS %L', s.oid::regclass, c.description)
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_catalog.pg_description c ON c.classoid = 'pg_catalog.pg_class'::regclass AND c.objoid = s.oid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1 AND d.deptype = 'i'",
];

/// Sums over row versions. Vacuum and analyze update pg_class in place, without a new version.
pub(super) const VERSION: &str = "
WITH own(oid) AS (
  SELECT $1::oid
  UNION ALL SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = $1
  UNION ALL SELECT d.objid FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1
    AND d.deptype IN ('a', 'i')
), versions(place, version) AS (
  SELECT 'c' || c.oid, c.xmin FROM own JOIN pg_catalog.pg_class c USING (oid)
  UNION ALL SELECT 's' || s.seqrelid, s.xmin FROM own JOIN pg_catalog.pg_sequence s ON s.seqrelid = own.oid
  UNION ALL SELECT 'x' || i.indexrelid, i.xmin FROM pg_catalog.pg_index i WHERE i.indrelid = $1
  UNION ALL SELECT 'a' || a.attnum, a.xmin FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1
  UNION ALL SELECT 'd' || d.oid, d.xmin FROM pg_catalog.pg_attrdef d WHERE d.adrelid = $1
  UNION ALL SELECT 'k' || k.oid, k.xmin FROM pg_catalog.pg_constraint k WHERE k.conrelid = $1
  UNION ALL SELECT 't' || t.oid, t.xmin FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1
  UNION ALL SELECT 'r' || r.oid, r.xmin FROM pg_catalog.pg_rewrite r WHERE r.ev_class = $1
  UNION ALL SELECT 'l' || l.oid, l.xmin FROM pg_catalog.pg_policy l WHERE l.polrelid = $1
  UNION ALL SELECT 'i' || i.inhrelid, i.xmin FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1 OR i.inhrelid = $1
  UNION ALL SELECT 'e' || e.oid, e.xmin FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = $1
  UNION ALL SELECT 'u' || u.oid, u.xmin FROM pg_catalog.pg_publication_rel u WHERE u.prrelid = $1
  UNION ALL SELECT 'm' || m.objoid || ' ' || m.objsubid, m.xmin FROM own
            JOIN pg_catalog.pg_description m ON m.objoid = own.oid AND m.classoid = 'pg_catalog.pg_class'::regclass
  UNION ALL SELECT 'p' || p.objid || ' ' || p.objsubid, p.xmin FROM pg_catalog.pg_depend p
            WHERE p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = $1
)
SELECT coalesce(sum(pg_catalog.hashtextextended(place || ' ' || version::text, 0)), 0)::text FROM versions";
