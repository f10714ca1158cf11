//! What an expression can cost at most, told from the sizes that the schema allows.

use super::ast::{Comprehension, Expr, Kind, Literal, NOT_STRICTLY_FALSE};
use super::check::Types;
use super::library::{MAKES, WALKS};
use super::types::{Declared, Shape, Type};

/// From least to most; of sizes and of costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Range {
    const fn fixed(value: u64) -> Range {
        Range { min: value, max: value }
    }

    const UNKNOWN: Range = Range { min: 0, max: u64::MAX };
    const ZERO: Range = Range::fixed(0);
    const ONE: Range = Range::fixed(1);

    fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// Each end over `divisor`, rounded up: the share of a character or of an expression's length.
    fn share(self, times: u64, divisor: u64) -> Range {
        let share = |value: u64| {
            if value == u64::MAX { value } else { value.saturating_mul(times).div_ceil(divisor) }
        };
        Range { min: share(self.min), max: share(self.max) }
    }

    fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// What is known of the size of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Known<'d> {
    /// Where in the declared value it stands: nowhere, or at something that is declared, or not.
    place: Option<Option<&'d Declared>>,
    size: Option<Range>,
    /// The size of items, or values.
    entry: Option<Range>,
}

impl<'d> Known<'d> {
    fn at(declared: &'d Declared) -> Known<'d> {
        Known { place: Some(Some(declared)), ..Known::default() }
    }

    fn declared(&self) -> Option<&'d Declared> {
        self.place.flatten()
    }

    /// What is known of its items or values. As in Kubernetes, those of a value that stands nowhere are as big as the whole
    /// where nothing else is known.
    fn entries(&self, root: &'d Declared) -> Known<'d> {
        let place = match self.place {
            None => Some(root),
            Some(place) => place.and_then(|declared| match &declared.shape {
                Shape::List(items, _) | Shape::Map(items) => Some(&**items),
                _ => None,
            }),
        };
        Known { place: Some(place), size: self.entry, entry: None }
    }

    fn field(&self, root: &'d Declared, field: &str) -> Option<Option<&'d Declared>> {
        Some(match self.place {
            None => Some(root),
            Some(place) => place.and_then(|declared| below(declared, field)),
        })
    }
}

/// The most that the expression can cost where `root` declares `self` and `oldSelf`.
pub(crate) fn most(expr: &Expr, types: &Types, root: &Declared) -> u64 {
    let scope = vec![("self", Known::at(root)), ("oldSelf", Known::at(root))];
    let mut estimator = Estimator { types, root, scope, known: vec![Known::default(); types.0.len()] };
    estimator.cost(expr).max
}

struct Estimator<'e> {
    types: &'e Types,
    root: &'e Declared,
    scope: Vec<(&'e str, Known<'e>)>,
    known: Vec<Known<'e>>,
}

impl<'e> Estimator<'e> {
    fn size(&self, expr: &Expr) -> Range {
        let known = &self.known[expr.id];
        if let Some(size) = known.size {
            return size;
        }
        match &expr.kind {
            Kind::Literal(Literal::String(text)) => return Range::fixed(text.chars().count() as u64),
            Kind::Literal(Literal::Bytes(bytes)) => return Range::fixed(bytes.len() as u64),
            Kind::Literal(_) => return Range::ONE,
            Kind::List(items) => return Range::fixed(items.len() as u64),
            Kind::Map(entries) => return Range::fixed(entries.len() as u64),
            _ => {}
        }
        match known.declared() {
            _ if is_scalar(self.types.of(expr)) => Range::ONE,
            Some(declared) => Range { min: 0, max: declared.most },
            None => Range::UNKNOWN,
        }
    }

    fn cost(&mut self, expr: &'e Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) => Range::ZERO,
            Kind::Ident(name) => {
                let known = self.scope.iter().rev().find(|(known, _)| known == name);
                // The name of a type counts as the whole.
                self.known[expr.id] = known.map_or(Known::at(self.root), |(_, known)| *known);
                Range::ONE
            }
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List(items) => {
                let costs = items.iter().map(|(item, _)| self.cost(item)).fold(Range::ZERO, Range::plus);
                let entry = items.iter().map(|(item, _)| self.size(item)).reduce(Range::union);
                self.known[expr.id].entry = Some(entry.unwrap_or(Range::ZERO));
                costs.plus(Range::fixed(10))
            }
            Kind::Map(entries) => {
                let mut costs = Range::fixed(30);
                for (key, value, _) in entries {
                    costs = costs.plus(self.cost(key)).plus(self.cost(value));
                }
                let entry = entries.iter().map(|(_, value, _)| self.size(value)).reduce(Range::union);
                self.known[expr.id].entry = Some(entry.unwrap_or(Range::ZERO));
                costs
            }
            Kind::Comprehension(loops) => self.comprehension(expr, loops),
        }
    }

    fn select(&mut self, expr: &Expr, operand: &'e Expr, field: &str, test: bool) -> Range {
        let cost = self.cost(operand);
        if test {
            return cost;
        }
        self.known[expr.id].place = self.known[operand.id].field(self.root, field);
        match self.types.of(operand) {
            Type::Map(_) | Type::Object(_) | Type::Param(_) => cost.plus(Range::ONE),
            _ => cost,
        }
    }

    fn comprehension(&mut self, expr: &Expr, loops: &'e Comprehension) -> Range {
        let depth = self.scope.len();
        let mut sum = self.cost(&loops.range).plus(self.cost(&loops.init));
        let mut init = self.known[loops.init.id];
        init.size = init.size.or_else(|| init.place.is_none().then(|| self.size(&loops.init)));
        self.scope.push((&loops.accu, init));
        if loops.is_binding() {
            sum = sum.plus(self.cost(&loops.result));
            self.known[expr.id] = self.known[loops.result.id];
            self.scope.truncate(depth);
            return sum;
        }
        let range = self.known[loops.range.id];
        let keyed = matches!(self.types.of(&loops.range), Type::Map(_));
        let key = match range.place {
            _ if !keyed => Known { size: Some(Range::ONE), ..Known::default() },
            None => Known::at(self.root),
            // As in Kubernetes, the keys of a declared map count nothing.
            Some(Some(_)) => Known { size: Some(Range::ZERO), ..Known::default() },
            Some(None) => Known { place: Some(None), ..Known::default() },
        };
        match &loops.var2 {
            Some(var2) => {
                self.scope.push((&loops.var, key));
                self.scope.push((var2, range.entries(self.root)));
            }
            None if keyed => self.scope.push((&loops.var, key)),
            None => self.scope.push((&loops.var, range.entries(self.root))),
        }
        let round = self.cost(&loops.condition).plus(self.cost(&loops.step));
        self.scope.truncate(depth + 1);
        sum = sum.plus(self.cost(&loops.result));
        self.scope.truncate(depth);
        let rounds = self.size(&loops.range);
        if matches!(loops.init.kind, Kind::List(_) | Kind::Map(_)) {
            let step = match &loops.step.kind {
                Kind::Call { args, .. } if loops.step.id < self.known.len() && args.len() == 3 => &args[1],
                _ => &loops.step,
            };
            let entry = self.known[step.id].entry;
            self.known[expr.id] = Known { place: None, size: Some(Range { min: 0, max: rounds.max }), entry };
        }
        sum.plus(rounds.times(round))
    }

    fn call(&mut self, expr: &'e Expr, function: &str, target: Option<&'e Expr>, args: &'e [Expr]) -> Range {
        let costs: Vec<Range> = args.iter().map(|arg| self.cost(arg)).collect();
        let sum = costs.iter().copied().fold(Range::ZERO, Range::plus);
        let target_cost = target.map_or(Range::ZERO, |target| self.cost(target));
        match (function, args) {
            ("_&&_" | "_||_", [..]) if costs.len() == 2 => return Range { min: costs[0].min, max: sum.max },
            ("_?_:_", [_, yes, no]) => {
                let size = self.size(yes).union(self.size(no));
                let entry = match (self.known[yes.id].entry, self.known[no.id].entry) {
                    (Some(a), Some(b)) => Some(a.union(b)),
                    (a, b) => a.or(b),
                };
                self.known[expr.id] = Known { place: None, size: Some(size), entry };
                return costs[0].plus(costs[1].union(costs[2]));
            }
            ("_[_]" | "_[?_]", [operand, key]) => {
                self.known[expr.id] = self.known[operand.id].entries(self.root);
                if let (Some(declared), Kind::Literal(Literal::String(field))) =
                    (self.known[operand.id].declared(), &key.kind)
                {
                    self.known[expr.id].place = Some(below(declared, field));
                }
            }
            ("_?._", [operand, Expr { kind: Kind::Literal(Literal::String(field)), .. }]) => {
                self.known[expr.id].place = self.known[operand.id].field(self.root, field);
            }
            ("dyn", [arg]) => {
                let size = Some(self.size(arg)).filter(|size| *size != Range::UNKNOWN);
                self.known[expr.id] = Known { size, ..self.known[arg.id] };
            }
            ("optional.of", [arg]) => self.known[expr.id] = self.known[arg.id],
            ("orValue" | "or", [arg]) => {
                if let Some(target) = target {
                    let size = self.size(target).union(self.size(arg));
                    self.known[expr.id] = Known { size: Some(size), ..self.known[target.id] };
                }
            }
            ("value", []) => {
                if let Some(target) = target {
                    self.known[expr.id] = self.known[target.id];
                }
            }
            _ => {}
        }
        let all: Vec<&'e Expr> = target.into_iter().chain(args).collect();
        let (own, size, entry) = self.own(function, &all);
        if size.is_some() {
            self.known[expr.id].size = size;
            self.known[expr.id].entry = entry.or(self.known[expr.id].entry);
        }
        sum.plus(target_cost).plus(own)
    }

    /// What the call itself costs, and the sizes of its result and of the result's items; `all` begins with the receiver.
    fn own(&self, function: &str, all: &[&Expr]) -> (Range, Option<Range>, Option<Range>) {
        let size = |index: usize| all.get(index).map_or(Range::ZERO, |expr| self.size(expr));
        let tenth = |range: Range| range.share(1, 10);
        let is_list =
            |index: usize| all.get(index).is_some_and(|expr| matches!(self.types.of(expr), Type::List(_)));
        let entry = |index: usize| {
            let known = all.get(index).map(|expr| self.known[expr.id].entries(self.root)).unwrap_or_default();
            match (known.size, known.declared()) {
                (Some(size), _) => size,
                (None, Some(declared)) => Range { min: 0, max: declared.most },
                (None, None) => Range::UNKNOWN,
            }
        };
        let plain = |cost: Range| (cost, None, None);
        let sized = |cost: Range, size: Range| (cost, Some(size), None);
        match function {
            "startsWith" | "endsWith" => plain(tenth(size(1))),
            "@in" if is_list(1) => plain(size(1)),
            "matches" => plain(tenth(size(0).plus(Range::ONE)).times(size(1).share(1, 4))),
            "find" => sized(tenth(size(0)).times(size(1).share(1, 4)), size(0)),
            "findAll" => sized(tenth(size(0)).times(size(1).share(1, 4)), size(0)),
            "contains" => plain(tenth(size(0)).times(tenth(size(1)))),
            "_+_" if is_list(0) => (Range::ONE, Some(size(0).plus(size(1))), Some(entry(0).union(entry(1)))),
            "_+_" if self.is_text(all[0]) => {
                let size = size(0).plus(size(1));
                sized(tenth(size), size)
            }
            "_==_" if matches!(self.types.of(all[0]), Type::Named(_)) => plain(Range::ONE),
            "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => {
                let least = size(0).max.min(size(1).max);
                plain(tenth(Range { min: u64::from(least > 0), max: least }))
            }
            walk if WALKS.contains(&walk) && is_list(0) => {
                let text = self.has_texts(all[0]);
                let each = if text { Range::ONE.plus(tenth(entry(0))) } else { Range::ONE };
                plain(size(0).times(each))
            }
            "lists.range" => {
                let count = all
                    .first()
                    .map_or(Range::UNKNOWN, |count| whole(count).map_or(Range::UNKNOWN, Range::fixed));
                (count.plus(MADE), Some(count), Some(Range::ONE))
            }
            make if MAKES.contains(&make) && is_list(0) => {
                let (cost, size) = self.made(make, all, size(0));
                (cost.plus(MADE), Some(size), Some(entry(0)))
            }
            "indexOf" | "lastIndexOf" | "format" | "strings.quote" | "bytes" => plain(tenth(size(0))),
            "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "reverse" => {
                sized(tenth(size(0)), size(0))
            }
            "replace" => {
                sized(size(0).share(2, 10), Range { min: 0, max: replaced(size(0), size(1), size(2)) })
            }
            "split" => {
                let most = Range { min: 0, max: size(0).max };
                sized(size(0).share(2, 10), most)
            }
            "join" => {
                let separators = if all.len() > 1 { size(0).times(size(1)) } else { Range::ZERO };
                let size = size(0).times(entry(0)).plus(separators);
                sized(tenth(size), size)
            }
            "sets.contains" | "sets.intersects" => plain(size(0).times(size(1)).plus(Range::ONE)),
            "sets.equivalent" => plain(size(0).times(size(1)).share(2, 1).plus(Range::ONE)),
            "ip" if matches!(self.types.of(all[0]), Type::Named(_)) => plain(Range::ONE),
            "ip" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver"
            | "isURL" => plain(tenth(size(0))),
            "string" if self.is_text(all[0]) => sized(tenth(size(0)), size(0)),
            NOT_STRICTLY_FALSE => plain(Range::ONE),
            _ => plain(Range::ONE),
        }
    }

    /// What a function that makes a list out of one costs, and how long its list is; `length`: of the one it is given.
    fn made(&self, function: &str, all: &[&Expr], length: Range) -> (Range, Range) {
        let pairs = |length: Range, texts: bool| {
            let pairs = length.times(length);
            pairs.share(if texts { 21 } else { 20 }, 10)
        };
        match (function, all) {
            ("slice", [_, from, to]) => {
                let (from, to) = (whole(from).unwrap_or(0), whole(to).unwrap_or(length.max));
                // As Kubernetes reckons it, also where the end is before the beginning.
                let length = Range::fixed(to.wrapping_sub(from));
                (length, length)
            }
            ("flatten", [_, depth]) => {
                let depth = whole(depth).unwrap_or(u64::MAX);
                (length.times(Range::fixed(depth)), length)
            }
            ("distinct", _) => (pairs(length, false), Range { min: 0, max: length.max }),
            ("sort", [list]) => (pairs(length, self.has_texts(list)), length),
            ("@sortByAssociatedKeys", [_, keys]) => (pairs(self.size(keys), self.has_texts(keys)), length),
            _ => (length, length),
        }
    }

    fn is_text(&self, expr: &Expr) -> bool {
        matches!(self.types.of(expr), Type::String | Type::Bytes | Type::Dyn)
    }

    fn has_texts(&self, list: &Expr) -> bool {
        match self.types.of(list) {
            Type::List(items) => matches!(**items, Type::String | Type::Bytes | Type::Dyn),
            _ => true,
        }
    }
}

/// Whether values of a type are all of one size.
fn is_scalar(type_: &Type) -> bool {
    match type_ {
        Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Timestamp => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

/// What the call of a function that makes a list costs beside its items, with the list.
const MADE: Range = Range::fixed(11);

/// A whole number that is written in the expression; what is negative counts as nothing.
fn whole(expr: &Expr) -> Option<u64> {
    match expr.kind {
        Kind::Literal(Literal::Int(number)) => Some(u64::try_from(number).unwrap_or(0)),
        _ => None,
    }
}

/// The longest that a text can become when every occurrence is replaced.
fn replaced(text: Range, old: Range, new: Range) -> u64 {
    let times = match old.min {
        0 => text.max.saturating_add(1),
        least => text.max.div_ceil(least),
    };
    text.max.saturating_add(times.saturating_mul(new.max))
}

/// What a declared value has under a name.
fn below<'d>(declared: &'d Declared, field: &str) -> Option<&'d Declared> {
    match &declared.shape {
        Shape::Object(fields) => fields.fields.get(field).map(|field| &field.declared),
        Shape::Map(values) => Some(values),
        _ => None,
    }
}
