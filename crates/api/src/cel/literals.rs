//! What is known to be wrong before anything is evaluated: literals that cannot be read, lists and maps of several types,
//! and texts that are formatted by verbs that do not fit.

use super::ast::{Expr, Kind, Literal};
use super::check::Types;
use super::issues::Issue;
use super::library::{printf, regex, time};
use super::types::{Bindings, Type};

/// Complains of an expression whose types are known.
pub(crate) fn check(expr: &Expr, types: &Types, issues: &mut Vec<Issue>) {
    walk(expr, &mut |expr| {
        let Kind::Call { function, target, args } = &expr.kind else { return };
        if function == "format"
            && let (Some(Kind::Literal(Literal::String(text))), [Expr { kind: Kind::List(items), .. }]) =
                (target.as_ref().map(|target| &target.kind), args.as_slice())
        {
            issues.extend(formatted(text, items, expr.at, types));
        }
        let Some(Expr { at, kind: Kind::Literal(literal), .. }) = args.last() else { return };
        let what = match (function.as_str(), literal) {
            ("duration", Literal::String(text)) if time::duration(text).is_none() => "duration",
            ("timestamp", Literal::String(text)) if time::timestamp(text).is_none() => "timestamp",
            ("timestamp", Literal::Int(seconds)) if !time::is_in_range(*seconds) => "timestamp",
            ("matches", Literal::String(text)) if regex::compile(text).is_err() => "matches",
            _ => return,
        };
        issues.push(Issue { at: *at, message: format!("invalid {what} argument") });
    });
    agree(expr, types, issues);
}

/// What is wrong with a format and the values that it is given.
fn formatted(text: &str, items: &[(Expr, bool)], at: usize, types: &Types) -> Option<Issue> {
    let verbs = match printf::verbs(text) {
        Ok(verbs) => verbs,
        Err(message) => return Some(Issue { at, message }),
    };
    for (index, verb) in verbs.iter().enumerate() {
        let Some((item, _)) = items.get(index) else {
            return Some(Issue { at, message: format!("index {index} out of range") });
        };
        if let Some(wrong) = unformattable(*verb, item, types) {
            let refused = printf::refused(*verb).unwrap_or_default();
            let name = wrong.1;
            let message = format!("error during formatting: {refused}, was given {name}");
            return Some(Issue { at: wrong.0, message });
        }
    }
    let (verbs, count) = (verbs.len(), items.len());
    (verbs < count).then(|| Issue {
        at,
        message: format!("too many arguments supplied to string.format (expected {verbs}, got {count})"),
    })
}

/// The value that a verb cannot write: where it stands, and its type.
fn unformattable(verb: char, expr: &Expr, types: &Types) -> Option<(usize, String)> {
    let type_ = types.of(expr);
    let fits = match (verb, type_) {
        (_, Type::Dyn | Type::Error) => true,
        ('s', Type::Optional(_) | Type::Named(_) | Type::Object(_)) => false,
        ('s', _) => true,
        ('d' | 'o', Type::Int | Type::Uint) => true,
        ('f' | 'e', Type::Double | Type::String) => true,
        ('b', Type::Int | Type::Uint | Type::Bool) => true,
        ('x' | 'X', Type::Int | Type::Uint | Type::String | Type::Bytes) => true,
        _ => false,
    };
    if !fits {
        let name = match type_ {
            Type::Optional(_) => "optional_type".to_owned(),
            Type::List(_) => "list".to_owned(),
            Type::Map(_) => "map".to_owned(),
            Type::Kind(_) => "type".to_owned(),
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
            other => other.to_string(),
        };
        return Some((expr.at, name));
    }
    match &expr.kind {
        Kind::List(items) if verb == 's' => {
            items.iter().find_map(|(item, _)| unformattable(verb, item, types))
        }
        Kind::Map(entries) if verb == 's' => entries.iter().find_map(|(key, value, _)| {
            unformattable(verb, key, types).or_else(|| unformattable(verb, value, types))
        }),
        _ => None,
    }
}

/// Complains of lists and maps whose parts are not of one type; what is to be formatted may be of any.
fn agree(expr: &Expr, types: &Types, issues: &mut Vec<Issue>) {
    match &expr.kind {
        Kind::Call { function, .. } if function == "format" => return,
        Kind::List(items) => {
            let items = items.iter().map(|(item, optional)| (item, *optional));
            issues.extend(disagreeing(items, types));
        }
        Kind::Map(entries) => {
            issues.extend(disagreeing(entries.iter().map(|(key, ..)| (key, false)), types));
            let values = entries.iter().map(|(_, value, optional)| (value, *optional));
            issues.extend(disagreeing(values, types));
        }
        _ => {}
    }
    below(expr, &mut |expr| agree(expr, types, issues));
}

/// The first part that is of another type than the first.
fn disagreeing<'e>(parts: impl Iterator<Item = (&'e Expr, bool)>, types: &Types) -> Option<Issue> {
    let mut first: Option<Type> = None;
    for (part, optional) in parts {
        let found = match types.of(part) {
            Type::Optional(inner) if optional => (**inner).clone(),
            found => found.clone(),
        };
        // Nothing is known of the value of an optional that holds none.
        if optional && found.is_dynamic() {
            continue;
        }
        let Some(wanted) = &first else {
            first = Some(found);
            continue;
        };
        if !is_equivalent(wanted, &found) {
            let message = format!("expected type '{wanted}' but found '{found}'");
            return Some(Issue { at: part.at, message });
        }
    }
    None
}

fn is_equivalent(a: &Type, b: &Type) -> bool {
    let same_kind = std::mem::discriminant(a) == std::mem::discriminant(b);
    same_kind && Bindings::default().accepts(a, b)
}

/// Visits every node.
pub(crate) fn walk(expr: &Expr, visit: &mut impl FnMut(&Expr)) {
    visit(expr);
    below(expr, &mut |expr| walk(expr, visit));
}

/// Visits the nodes right below.
fn below(expr: &Expr, visit: &mut dyn FnMut(&Expr)) {
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => visit(operand),
        Kind::Call { target, args, .. } => {
            target.iter().for_each(|target| visit(target));
            args.iter().for_each(visit);
        }
        Kind::List(items) => items.iter().for_each(|(item, _)| visit(item)),
        Kind::Map(entries) => entries.iter().for_each(|(key, value, _)| {
            visit(key);
            visit(value);
        }),
        Kind::Comprehension(loops) => {
            for part in [&loops.range, &loops.init, &loops.condition, &loops.step, &loops.result] {
                visit(part);
            }
        }
    }
}
