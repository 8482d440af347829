//! Which names PostgreSQL gives to columns without AS (parse_target.c, FigureColnameInternal).

use crate::statement::tree::Expr;

/// An answer that may be "perhaps".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    /// Surely.
    Yes,
    /// Surely not.
    No,
    /// The text alone does not tell.
    Maybe,
}

/// What PostgreSQL names what has no better name.
const NO_NAME: &str = "?column?";

/// Functions that the grammar spells as keywords and turns into calls of other names.
const KEYWORD_FUNCTIONS: &[&str] = &[
    "collation",
    "extract",
    "trim",
    "overlay",
    "position",
    "substring",
    "normalize",
    "treat",
    "user",
    "session_user",
    "current_user",
    "current_role",
    "system_user",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
];

/// Is an unnamed column with this expression called `name`?
pub(super) fn is_named(expr: &Expr, name: &str) -> Truth {
    let maybe = |condition| if condition { Truth::Maybe } else { Truth::No };
    match expr {
        Expr::Column { name: column, .. } if column == name => Truth::Yes,
        Expr::Column { .. } => Truth::No,
        Expr::Function(call) => {
            let function = call.name.name.as_str();
            let keyword = KEYWORD_FUNCTIONS.contains(&function) || function.starts_with("xml");
            maybe(function == name || keyword || function.starts_with("json"))
        }
        Expr::Collate { expr, .. } => is_named(expr, name),
        // The operand's name if it has one, else the type's, which is not always spelled as in the text.
        Expr::Cast { expr, .. } => match &**expr {
            Expr::Column { .. } | Expr::Function(_) => is_named(expr, name),
            _ => Truth::Maybe,
        },
        Expr::Literal(_)
        | Expr::Param(_)
        | Expr::Null
        | Expr::Number(_)
        | Expr::String(_)
        | Expr::And(_)
        | Expr::Or(_)
        | Expr::Not(_)
        | Expr::Negate(_)
        | Expr::Binary { .. }
        | Expr::In { .. }
        | Expr::InQuery { .. }
        | Expr::Quantified { .. }
        | Expr::IsNull { .. }
        | Expr::Between { .. } => maybe(name == NO_NAME),
        Expr::Bool(_)
        | Expr::Default
        | Expr::Exists(_)
        | Expr::Query(_)
        | Expr::Array(_)
        | Expr::Row(_)
        | Expr::Case(_)
        | Expr::Field { .. }
        | Expr::Other(_) => Truth::Maybe,
    }
}
