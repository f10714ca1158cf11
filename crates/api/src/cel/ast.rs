//! What an expression is once it is read: macros are expanded, operators are calls (`_+_`).

/// A node. `id` counts nodes of one expression from 0; `at` is the position in characters that errors point to.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: usize,
    pub(crate) at: usize,
    /// Levels of nodes from here down.
    pub(crate) height: usize,
    pub(crate) kind: Kind,
}

impl Kind {
    /// Levels of the nodes below.
    pub(crate) fn below(&self) -> usize {
        let tallest = |nodes: &[&Expr]| nodes.iter().map(|node| node.height).max().unwrap_or(0);
        match self {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select { operand, .. } => operand.height,
            Kind::Call { target, args, .. } => {
                let target = target.as_ref().map_or(0, |target| target.height);
                args.iter().map(|arg| arg.height).max().unwrap_or(0).max(target)
            }
            Kind::List(items) => items.iter().map(|(item, _)| item.height).max().unwrap_or(0),
            Kind::Map(entries) => {
                entries.iter().map(|(key, value, _)| key.height.max(value.height)).max().unwrap_or(0)
            }
            Kind::Comprehension(it) => tallest(&[&it.range, &it.init, &it.condition, &it.step, &it.result]),
        }
    }
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(String),
    /// `operand.field`; with `test`: `has(operand.field)`.
    Select {
        operand: Box<Expr>,
        field: String,
        test: bool,
    },
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// Items, and whether each is optional (`[?x]`).
    List(Vec<(Expr, bool)>),
    /// Keys, values, and whether the entry is optional (`{?k: v}`).
    Map(Vec<(Expr, Expr, bool)>),
    Comprehension(Box<Comprehension>),
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(std::sync::Arc<str>),
    Bytes(std::sync::Arc<[u8]>),
}

/// A loop over `range` that carries `accu` from `init` by `step` while `condition` holds; its value is `result`.
#[derive(Clone, Debug)]
pub(crate) struct Comprehension {
    pub(crate) range: Expr,
    pub(crate) var: String,
    pub(crate) var2: Option<String>,
    pub(crate) accu: String,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

/// The variable that macros carry their result in.
pub(crate) const ACCUMULATOR: &str = "@result";
/// Whether a value is anything but false: errors count as true.
pub(crate) const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";

impl Comprehension {
    /// Whether it is no loop but a name for a value (made by `optMap`).
    pub(crate) fn is_binding(&self) -> bool {
        matches!(&self.range.kind, Kind::List(items) if items.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
            && self.accu != ACCUMULATOR
    }
}
