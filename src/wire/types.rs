//! OIDs of PostgreSQL's built-in types (`pg_type.dat`). They are the same on every server; user types' are not.

/// A type's OID, as it stands in Parse, RowDescription and ParameterDescription.
pub type Oid = u32;

/// The first OID that a server gives to what users create (`FirstNormalObjectId`): from here on it differs by server.
pub const FIRST_USER_OID: Oid = 16_384;

/// "Not specified": in Parse, the server infers the parameter's type.
pub const UNSPECIFIED: Oid = 0;

macro_rules! types {
    ($($name:ident $array:ident = $oid:literal, $array_oid:literal, $sql:literal;)*) => {
        $(
            #[doc = concat!("The type `", $sql, "`.")]
            pub const $name: Oid = $oid;
            #[doc = concat!("The type `", $sql, "[]`.")]
            pub const $array: Oid = $array_oid;
        )*

        /// The array type of a built-in type.
        #[must_use]
        pub fn array_of(element: Oid) -> Option<Oid> {
            match element { $($oid => Some($array_oid),)* _ => None }
        }

        /// The element type of a built-in array type.
        #[must_use]
        pub fn element_of(array: Oid) -> Option<Oid> {
            match array { $($array_oid => Some($oid),)* _ => None }
        }

        /// The name of a built-in type, as PostgreSQL displays it.
        #[must_use]
        pub fn name_of(oid: Oid) -> Option<&'static str> {
            match oid {
                $($oid => Some($sql), $array_oid => Some(concat!($sql, "[]")),)*
                UNKNOWN => Some("unknown"),
                VOID => Some("void"),
                _ => None,
            }
        }
    };
}

types! {
    BOOL BOOL_ARRAY = 16, 1000, "boolean";
    BYTEA BYTEA_ARRAY = 17, 1001, "bytea";
    CHAR CHAR_ARRAY = 18, 1002, "\"char\"";
    NAME NAME_ARRAY = 19, 1003, "name";
    INT8 INT8_ARRAY = 20, 1016, "bigint";
    INT2 INT2_ARRAY = 21, 1005, "smallint";
    INT2VECTOR INT2VECTOR_ARRAY = 22, 1006, "int2vector";
    INT4 INT4_ARRAY = 23, 1007, "integer";
    REGPROC REGPROC_ARRAY = 24, 1008, "regproc";
    TEXT TEXT_ARRAY = 25, 1009, "text";
    OID OID_ARRAY = 26, 1028, "oid";
    TID TID_ARRAY = 27, 1010, "tid";
    XID XID_ARRAY = 28, 1011, "xid";
    CID CID_ARRAY = 29, 1012, "cid";
    OIDVECTOR OIDVECTOR_ARRAY = 30, 1013, "oidvector";
    JSON JSON_ARRAY = 114, 199, "json";
    XML XML_ARRAY = 142, 143, "xml";
    POINT POINT_ARRAY = 600, 1017, "point";
    LSEG LSEG_ARRAY = 601, 1018, "lseg";
    PATH PATH_ARRAY = 602, 1019, "path";
    BOX BOX_ARRAY = 603, 1020, "box";
    POLYGON POLYGON_ARRAY = 604, 1027, "polygon";
    LINE LINE_ARRAY = 628, 629, "line";
    CIDR CIDR_ARRAY = 650, 651, "cidr";
    FLOAT4 FLOAT4_ARRAY = 700, 1021, "real";
    FLOAT8 FLOAT8_ARRAY = 701, 1022, "double precision";
    CIRCLE CIRCLE_ARRAY = 718, 719, "circle";
    MACADDR8 MACADDR8_ARRAY = 774, 775, "macaddr8";
    MONEY MONEY_ARRAY = 790, 791, "money";
    MACADDR MACADDR_ARRAY = 829, 1040, "macaddr";
    INET INET_ARRAY = 869, 1041, "inet";
    ACLITEM ACLITEM_ARRAY = 1033, 1034, "aclitem";
    BPCHAR BPCHAR_ARRAY = 1042, 1014, "character";
    VARCHAR VARCHAR_ARRAY = 1043, 1015, "character varying";
    DATE DATE_ARRAY = 1082, 1182, "date";
    TIME TIME_ARRAY = 1083, 1183, "time without time zone";
    TIMESTAMP TIMESTAMP_ARRAY = 1114, 1115, "timestamp without time zone";
    TIMESTAMPTZ TIMESTAMPTZ_ARRAY = 1184, 1185, "timestamp with time zone";
    INTERVAL INTERVAL_ARRAY = 1186, 1187, "interval";
    TIMETZ TIMETZ_ARRAY = 1266, 1270, "time with time zone";
    BIT BIT_ARRAY = 1560, 1561, "bit";
    VARBIT VARBIT_ARRAY = 1562, 1563, "bit varying";
    NUMERIC NUMERIC_ARRAY = 1700, 1231, "numeric";
    REFCURSOR REFCURSOR_ARRAY = 1790, 2201, "refcursor";
    REGPROCEDURE REGPROCEDURE_ARRAY = 2202, 2207, "regprocedure";
    REGOPER REGOPER_ARRAY = 2203, 2208, "regoper";
    REGOPERATOR REGOPERATOR_ARRAY = 2204, 2209, "regoperator";
    REGCLASS REGCLASS_ARRAY = 2205, 2210, "regclass";
    REGTYPE REGTYPE_ARRAY = 2206, 2211, "regtype";
    RECORD RECORD_ARRAY = 2249, 2287, "record";
    CSTRING CSTRING_ARRAY = 2275, 1263, "cstring";
    UUID UUID_ARRAY = 2950, 2951, "uuid";
    TXID_SNAPSHOT TXID_SNAPSHOT_ARRAY = 2970, 2949, "txid_snapshot";
    PG_LSN PG_LSN_ARRAY = 3220, 3221, "pg_lsn";
    TSVECTOR TSVECTOR_ARRAY = 3614, 3643, "tsvector";
    TSQUERY TSQUERY_ARRAY = 3615, 3645, "tsquery";
    GTSVECTOR GTSVECTOR_ARRAY = 3642, 3644, "gtsvector";
    REGCONFIG REGCONFIG_ARRAY = 3734, 3735, "regconfig";
    REGDICTIONARY REGDICTIONARY_ARRAY = 3769, 3770, "regdictionary";
    JSONB JSONB_ARRAY = 3802, 3807, "jsonb";
    INT4RANGE INT4RANGE_ARRAY = 3904, 3905, "int4range";
    NUMRANGE NUMRANGE_ARRAY = 3906, 3907, "numrange";
    TSRANGE TSRANGE_ARRAY = 3908, 3909, "tsrange";
    TSTZRANGE TSTZRANGE_ARRAY = 3910, 3911, "tstzrange";
    DATERANGE DATERANGE_ARRAY = 3912, 3913, "daterange";
    INT8RANGE INT8RANGE_ARRAY = 3926, 3927, "int8range";
    JSONPATH JSONPATH_ARRAY = 4072, 4073, "jsonpath";
    REGNAMESPACE REGNAMESPACE_ARRAY = 4089, 4090, "regnamespace";
    REGROLE REGROLE_ARRAY = 4096, 4097, "regrole";
    REGCOLLATION REGCOLLATION_ARRAY = 4191, 4192, "regcollation";
    INT4MULTIRANGE INT4MULTIRANGE_ARRAY = 4451, 6150, "int4multirange";
    NUMMULTIRANGE NUMMULTIRANGE_ARRAY = 4532, 6151, "nummultirange";
    TSMULTIRANGE TSMULTIRANGE_ARRAY = 4533, 6152, "tsmultirange";
    TSTZMULTIRANGE TSTZMULTIRANGE_ARRAY = 4534, 6153, "tstzmultirange";
    DATEMULTIRANGE DATEMULTIRANGE_ARRAY = 4535, 6155, "datemultirange";
    INT8MULTIRANGE INT8MULTIRANGE_ARRAY = 4536, 6157, "int8multirange";
    PG_SNAPSHOT PG_SNAPSHOT_ARRAY = 5038, 5039, "pg_snapshot";
    XID8 XID8_ARRAY = 5069, 271, "xid8";
}

/// A literal or column whose type was never settled.
pub const UNKNOWN: Oid = 705;
/// What a function that returns nothing returns.
pub const VOID: Oid = 2278;
