//! Constants: what a column is compared with or set to, its value known only at execution.

use crate::route::key::{ConstantType, element_type_named, type_named};
use crate::statement::tree::Expr;

/// A constant of the statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    /// An extracted literal.
    Literal(usize),
    /// A parameter.
    Param(u16),
    /// A number in the shape.
    Number(String),
    /// A string in the shape.
    Text(String),
    /// TRUE or FALSE.
    Bool(bool),
    /// NULL, compared: equal to nothing.
    Null,
}

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// A value.
    One {
        /// The constant.
        constant: Constant,
        /// With a minus before it.
        negative: bool,
        /// Its type.
        given: ConstantType,
    },
    /// Each element of an array.
    Each {
        /// The constant.
        constant: Constant,
        /// Its element type.
        given: ConstantType,
    },
    /// `IS NULL`: NULL itself.
    IsNull,
}

/// What is cast, and to which type. Between types of one family nothing is lost: the client's driver may write one cast
/// and the application another.
fn uncast(mut expr: &Expr, named: fn(&str) -> ConstantType) -> Option<(&Expr, ConstantType)> {
    let mut given = ConstantType::Context;
    while let Expr::Cast {
        expr: inner,
        data_type,
    } = expr
    {
        let own = named(data_type);
        if own == ConstantType::Other || (given != ConstantType::Context && given != own) {
            return None;
        }
        (expr, given) = (inner, own);
    }
    Some((expr, given))
}

/// A constant: a literal, a parameter, or a cast of one.
pub(crate) fn operand(expr: &Expr) -> Option<Operand> {
    let (expr, given) = uncast(expr, type_named)?;
    let (expr, negative) = match expr {
        Expr::Negate(inner) => (inner.as_ref(), true),
        expr => (expr, false),
    };
    let constant = constant(expr)?;
    if negative && !matches!(constant, Constant::Literal(_) | Constant::Number(_)) {
        return None;
    }
    Some(Operand::One {
        constant,
        negative,
        given,
    })
}

/// `= ANY (…)`: an array literal, parameter or constructor.
pub(crate) fn array_operands(expr: &Expr) -> Option<Vec<Operand>> {
    let (expr, given) = uncast(expr, element_type_named)?;
    match expr {
        // A cast of the constructor is a cast of each element.
        Expr::Array(parts) => parts
            .iter()
            .map(|part| match operand(part)? {
                Operand::One {
                    constant,
                    negative,
                    given: ConstantType::Context,
                } => Some(Operand::One {
                    constant,
                    negative,
                    given,
                }),
                Operand::One { given: own, .. }
                    if given != ConstantType::Context && own != given =>
                {
                    None
                }
                operand => Some(operand),
            })
            .collect(),
        Expr::Literal(_) | Expr::Param(_) | Expr::String(_) | Expr::Null => {
            Some(vec![Operand::Each {
                constant: constant(expr)?,
                given,
            }])
        }
        _ => None,
    }
}

/// A bare constant.
fn constant(expr: &Expr) -> Option<Constant> {
    Some(match expr {
        Expr::Literal(index) => Constant::Literal(*index),
        Expr::Param(number) => Constant::Param(*number),
        Expr::Number(number) => Constant::Number(number.clone()),
        Expr::String(text) => Constant::Text(text.clone()),
        Expr::Bool(value) => Constant::Bool(*value),
        Expr::Null => Constant::Null,
        _ => return None,
    })
}
