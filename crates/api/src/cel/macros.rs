//! The macros: calls that become loops while the text is read.

use super::ast::{ACCUMULATOR, Comprehension, Expr, Kind, Literal, NOT_STRICTLY_FALSE};
use super::issues::Issue;
use super::parse::Parser;

type Expanded = Result<Expr, Issue>;

/// A call without a receiver: `has(a.b)`, or a function.
pub(crate) fn global(parser: &mut Parser, at: usize, name: String, mut args: Vec<Expr>) -> Expanded {
    if name != "has" || args.len() != 1 {
        return Ok(parser.node(at, Kind::Call { function: name, target: None, args }));
    }
    let arg = args.remove(0);
    match arg.kind {
        Kind::Select { operand, field, .. } => {
            Ok(parser.node(at, Kind::Select { operand, field, test: true }))
        }
        _ => Err(Issue { at: arg.at, message: "invalid argument to has() macro".to_owned() }),
    }
}

/// A call with a receiver: one of the loops, or a function.
pub(crate) fn member(
    parser: &mut Parser,
    at: usize,
    target: Expr,
    name: String,
    args: Vec<Expr>,
) -> Expanded {
    let mut maker = Maker { parser, at };
    match (name.as_str(), args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne" | "filter", 2) | ("map", 2 | 3) => {
            maker.one(target, &name, args)
        }
        ("all" | "exists" | "exists_one" | "existsOne", 3)
        | ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => maker.two(target, &name, args),
        ("optMap" | "optFlatMap", 2) => maker.optional(target, &name, args),
        ("sortBy", 2) => maker.sort_by(target, args),
        _ => Ok(parser.node(at, Kind::Call { function: name, target: Some(Box::new(target)), args })),
    }
}

struct Maker<'a> {
    parser: &'a mut Parser,
    at: usize,
}

/// The four parts of a loop that a macro chooses.
struct Loop {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

impl Maker<'_> {
    fn literal(&mut self, literal: Literal) -> Expr {
        self.parser.node(self.at, Kind::Literal(literal))
    }

    fn accu(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.parser.node(self.at, Kind::Ident(name.to_owned()))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.parser.call(self.at, function, args)
    }

    /// The name of a loop variable.
    fn name(&self, expr: &Expr, complaint: &str) -> Result<String, Issue> {
        match &expr.kind {
            Kind::Ident(name) if name != ACCUMULATOR => Ok(name.clone()),
            Kind::Ident(_) => Err(Issue {
                at: expr.at,
                message: "iteration variable overwrites accumulator variable".to_owned(),
            }),
            _ => Err(Issue { at: expr.at, message: complaint.to_owned() }),
        }
    }

    fn one(&mut self, range: Expr, name: &str, args: Vec<Expr>) -> Expanded {
        let mut args = args.into_iter();
        let mut next = || args.next().expect("counted by the caller");
        let first = next();
        let complaint = if matches!(name, "map" | "filter") {
            "argument is not an identifier"
        } else {
            "argument must be a simple name"
        };
        let var = self.name(&first, complaint)?;
        let parts = match (name, next(), args.next()) {
            ("map", filter, Some(transform)) => self.collect(Some(filter), transform),
            ("map", transform, None) => self.collect(None, transform),
            ("filter", predicate, _) => {
                let item = self.ident(&var);
                self.collect(Some(predicate), item)
            }
            (name, predicate, _) => self.quantify(name, predicate),
        };
        Ok(self.finish(range, var, None, parts))
    }

    fn two(&mut self, range: Expr, name: &str, args: Vec<Expr>) -> Expanded {
        let mut args = args.into_iter();
        let mut next = || args.next().expect("counted by the caller");
        let (first, second, third) = (next(), next(), next());
        let var = self.name(&first, "argument must be a simple name")?;
        let var2 = self.name(&second, "argument must be a simple name")?;
        if var == var2 {
            let message = format!("duplicate variable name: {var}");
            return Err(Issue { at: second.at, message });
        }
        let (filter, transform) = match args.next() {
            Some(transform) => (Some(third), transform),
            None => (None, third),
        };
        let parts = match name {
            "transformList" => self.collect(filter, transform),
            "transformMap" => {
                let (accu, key) = (self.accu(), self.ident(&var));
                let step = self.call("cel.@mapInsert", vec![accu, key, transform]);
                self.gather(filter, step)
            }
            "transformMapEntry" => {
                let accu = self.accu();
                let step = self.call("cel.@mapInsert", vec![accu, transform]);
                self.gather(filter, step)
            }
            name => self.quantify(name, transform),
        };
        Ok(self.finish(range, var, Some(var2), parts))
    }

    fn finish(&mut self, range: Expr, var: String, var2: Option<String>, parts: Loop) -> Expr {
        let Loop { init, condition, step, result } = parts;
        let accu = ACCUMULATOR.to_owned();
        let loops = Comprehension { range, var, var2, accu, init, condition, step, result };
        self.parser.node(self.at, Kind::Comprehension(Box::new(loops)))
    }

    fn quantify(&mut self, name: &str, predicate: Expr) -> Loop {
        let accu = self.accu();
        match name {
            "all" => {
                let step = self.call("_&&_", vec![accu, predicate]);
                let accu = self.accu();
                let condition = self.call(NOT_STRICTLY_FALSE, vec![accu]);
                Loop { init: self.literal(Literal::Bool(true)), condition, step, result: self.accu() }
            }
            "exists" => {
                let step = self.call("_||_", vec![accu, predicate]);
                let accu = self.accu();
                let not = self.call("!_", vec![accu]);
                let condition = self.call(NOT_STRICTLY_FALSE, vec![not]);
                Loop { init: self.literal(Literal::Bool(false)), condition, step, result: self.accu() }
            }
            _ => {
                let one = self.literal(Literal::Int(1));
                let more = self.call("_+_", vec![accu, one]);
                let accu = self.accu();
                let step = self.call("_?_:_", vec![predicate, more, accu]);
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                let result = self.call("_==_", vec![accu, one]);
                let condition = self.literal(Literal::Bool(true));
                Loop { init: self.literal(Literal::Int(0)), condition, step, result }
            }
        }
    }

    fn collect(&mut self, filter: Option<Expr>, transform: Expr) -> Loop {
        let accu = self.accu();
        let item = self.parser.node(self.at, Kind::List(vec![(transform, false)]));
        let mut step = self.call("_+_", vec![accu, item]);
        if let Some(filter) = filter {
            let accu = self.accu();
            step = self.call("_?_:_", vec![filter, step, accu]);
        }
        let init = self.parser.node(self.at, Kind::List(Vec::new()));
        Loop { init, condition: self.literal(Literal::Bool(true)), step, result: self.accu() }
    }

    fn gather(&mut self, filter: Option<Expr>, mut step: Expr) -> Loop {
        if let Some(filter) = filter {
            let accu = self.accu();
            step = self.call("_?_:_", vec![filter, step, accu]);
        }
        let init = self.parser.node(self.at, Kind::Map(Vec::new()));
        Loop { init, condition: self.literal(Literal::Bool(true)), step, result: self.accu() }
    }

    /// `target.optMap(x, e)`: `target.hasValue() ? optional.of(let x = target.value() in e) : optional.none()`.
    fn optional(&mut self, target: Expr, name: &str, args: Vec<Expr>) -> Expanded {
        let mut args = args.into_iter();
        let (Some(first), Some(body)) = (args.next(), args.next()) else {
            unreachable!("counted by the caller")
        };
        let var = self.name(&first, &format!("{name}() variable name must be a simple identifier"))?;
        let at = self.at;
        // The target is read twice, so it gets a name of its own.
        let held = "@target".to_owned();
        let (again, once) = (self.ident(&held), self.ident(&held));
        let has = self
            .parser
            .node(at, Kind::Call { function: "hasValue".into(), target: Some(Box::new(once)), args: vec![] });
        let value = self
            .parser
            .node(at, Kind::Call { function: "value".into(), target: Some(Box::new(again)), args: vec![] });
        let mut yes = self.bind(var, value, body);
        if name == "optMap" {
            yes = self.call("optional.of", vec![yes]);
        }
        let no = self.call("optional.none", vec![]);
        let choice = self.call("_?_:_", vec![has, yes, no]);
        Ok(self.bind(held, target, choice))
    }

    fn bind(&mut self, name: String, value: Expr, body: Expr) -> Expr {
        let range = self.parser.node(self.at, Kind::List(Vec::new()));
        let condition = self.literal(Literal::Bool(false));
        let step = self.ident(&name);
        let loops = Comprehension {
            range,
            var: "#unused".to_owned(),
            var2: None,
            accu: name,
            init: value,
            condition,
            step,
            result: body,
        };
        self.parser.node(self.at, Kind::Comprehension(Box::new(loops)))
    }

    /// `list.sortBy(x, key)`: the list and the list of its keys, sorted by the keys.
    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Expanded {
        let at = self.at;
        let held = "@list".to_owned();
        let range = self.ident(&held);
        let keys = self.one(range, "map", args)?;
        let list = self.ident(&held);
        let kind = Kind::Call {
            function: "@sortByAssociatedKeys".into(),
            target: Some(Box::new(list)),
            args: vec![keys],
        };
        let sorted = self.parser.node(at, kind);
        Ok(self.bind(held, target, sorted))
    }
}
