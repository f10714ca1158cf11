//! Variables that are expressions themselves: evaluated when they are first read, and once.

use super::Program;
use super::eval::Failure;
use super::eval::{Evaluator, Outcome};
use super::value::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// The variables of one run.
pub(crate) struct Lazy<'a> {
    /// What their expressions read beside each other.
    base: Vec<(&'a str, Value<'a>)>,
    programs: &'a [(String, Result<Program, String>)],
    known: RefCell<BTreeMap<&'a str, Outcome<'a>>>,
    cost: Cell<u64>,
    /// What they may cost together until they are asked for it.
    left: Cell<u64>,
}

impl<'a> Lazy<'a> {
    /// Names (`variables.x`) and programs, in the order in which they may read each other.
    pub(crate) fn new(
        base: Vec<(&'a str, Value<'a>)>,
        programs: &'a [(String, Result<Program, String>)],
    ) -> Lazy<'a> {
        Lazy { base, programs, known: RefCell::default(), cost: Cell::new(0), left: Cell::new(0) }
    }

    /// The value of a variable, if there is one of that name.
    pub(crate) fn value(&self, name: &str) -> Option<Outcome<'a>> {
        let (name, program) = self.programs.iter().find(|(known, _)| known == name)?;
        if let Some(value) = self.known.borrow().get(name.as_str()) {
            return Some(value.clone());
        }
        if self.cost.get() > self.left.get() {
            return Some(Err(Failure::Limit));
        }
        let shown = name.strip_prefix("variables.").unwrap_or(name);
        let value = match program {
            Ok(program) => {
                let (value, cost) = Evaluator::new(program, self.base.clone(), Some(self)).whole();
                self.cost.set(self.cost.get().saturating_add(cost));
                if self.cost.get() > self.left.get() {
                    return Some(Err(Failure::Limit));
                }
                value.map_err(|failure| {
                    Failure::new(format!("composited variable \"{shown}\" fails to evaluate: {failure}"))
                })
            }
            Err(error) => {
                Err(Failure::new(format!("composited variable \"{shown}\" fails to compile: {error}")))
            }
        };
        self.known.borrow_mut().insert(name, value.clone());
        Some(value)
    }

    /// How much they may cost from now on: what the expression that reads them may, for each has bounds of its own, and there
    /// may be many.
    pub(crate) fn allow(&self, left: u64) {
        self.left.set(left);
    }

    /// What the variables have cost since this was asked last.
    pub(crate) fn take_cost(&self) -> u64 {
        self.cost.take()
    }
}
