//! Literal arguments that are known to be wrong before anything is evaluated.

use super::ast::{Expr, Kind, Literal};
use super::issues::Issue;
use super::library::{regex, time};

/// Complains of durations, timestamps and regular expressions that cannot be read.
pub(crate) fn check(expr: &Expr, issues: &mut Vec<Issue>) {
    walk(expr, &mut |expr| {
        let Kind::Call { function, target, args } = &expr.kind else { return };
        if function == "format"
            && let (Some(Kind::Literal(Literal::String(text))), [Expr { kind: Kind::List(items), .. }]) =
                (target.as_ref().map(|target| &target.kind), args.as_slice())
        {
            let at = expr.at;
            let verbs = text.replace("%%", "").matches('%').count();
            let count = items.len();
            if verbs < count {
                let message =
                    format!("too many arguments supplied to string.format (expected {verbs}, got {count})");
                issues.push(Issue { at, message });
            } else if verbs > count {
                issues.push(Issue { at, message: format!("index {count} out of range") });
            }
        }
        let Some(Expr { at, kind: Kind::Literal(Literal::String(text)), .. }) = args.last() else { return };
        let what = match function.as_str() {
            "duration" if time::duration(text).is_none() => "duration",
            "timestamp" if time::timestamp(text).is_none() => "timestamp",
            "matches" if regex::compile(text).is_err() => "matches",
            _ => return,
        };
        issues.push(Issue { at: *at, message: format!("invalid {what} argument") });
    });
}

/// Visits every node.
pub(crate) fn walk(expr: &Expr, visit: &mut impl FnMut(&Expr)) {
    visit(expr);
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => walk(operand, visit),
        Kind::Call { target, args, .. } => {
            target.iter().for_each(|target| walk(target, visit));
            args.iter().for_each(|arg| walk(arg, visit));
        }
        Kind::List(items) => items.iter().for_each(|(item, _)| walk(item, visit)),
        Kind::Map(entries) => entries.iter().for_each(|(key, value, _)| {
            walk(key, visit);
            walk(value, visit);
        }),
        Kind::Comprehension(loops) => {
            for part in [&loops.range, &loops.init, &loops.condition, &loops.step, &loops.result] {
                walk(part, visit);
            }
        }
    }
}
