//! Sets of fields.

use super::path::Element;
use std::cmp::Ordering;

/// Paths to fields, as a tree. A path in the set says nothing of the paths above and below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// The steps that end a path here; sorted.
    members: Vec<Element>,
    /// The steps that paths go on behind; sorted, none of them empty.
    children: Vec<(Element, Set)>,
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    pub(super) fn members(&self) -> &[Element] {
        &self.members
    }

    pub(super) fn children(&self) -> &[(Element, Set)] {
        &self.children
    }

    pub(super) fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => self.insert_member(last.clone()),
            [first, rest @ ..] => self.descend(first).insert(rest),
        }
    }

    pub(super) fn insert_member(&mut self, element: Element) {
        if self.members.last().is_none_or(|last| *last < element) {
            self.members.push(element);
        } else if let Err(at) = self.members.binary_search(&element) {
            self.members.insert(at, element);
        }
    }

    /// Adds all of `below` behind `element`.
    pub(super) fn insert_below(&mut self, element: &Element, below: Set) {
        if below.is_empty() {
            return;
        }
        if self.children.last().is_none_or(|(last, _)| last < element) {
            self.children.push((element.clone(), below));
            return;
        }
        let child = self.descend(element);
        *child = if child.is_empty() { below } else { child.union(&below) };
    }

    fn descend(&mut self, element: &Element) -> &mut Set {
        let at = match self.children.binary_search_by(|(child, _)| child.cmp(element)) {
            Ok(at) => at,
            Err(at) => {
                self.children.insert(at, (element.clone(), Set::default()));
                at
            }
        };
        &mut self.children[at].1
    }

    pub(super) fn has_member(&self, element: &Element) -> bool {
        self.members.binary_search(element).is_ok()
    }

    pub(super) fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.below(first).is_some_and(|below| below.has(rest)),
        }
    }

    pub(super) fn below(&self, element: &Element) -> Option<&Set> {
        let at = self.children.binary_search_by(|(child, _)| child.cmp(element)).ok()?;
        Some(&self.children[at].1)
    }

    pub(super) fn union(&self, other: &Set) -> Set {
        let members =
            merged(&self.members, &other.members, Element::cmp, |one, other| one.or(other).cloned());
        let children = merged(&self.children, &other.children, by_element, |one, other| match (one, other) {
            (Some(one), Some(other)) => Some((one.0.clone(), one.1.union(&other.1))),
            (one, other) => one.or(other).cloned(),
        });
        Set { members, children }
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        let members =
            merged(&self.members, &other.members, Element::cmp, |one, other| other.and(one).cloned());
        let children = merged(&self.children, &other.children, by_element, |one, other| {
            let (one, other) = (one?, other?);
            kept(&one.0, one.1.intersection(&other.1))
        });
        Set { members, children }
    }

    /// Without the paths of `other`; what lies below them stays.
    pub(super) fn difference(&self, other: &Set) -> Set {
        let children = merged(&self.children, &other.children, by_element, |one, other| {
            let one = one?;
            match other {
                Some(other) => kept(&one.0, one.1.difference(&other.1)),
                None => Some(one.clone()),
            }
        });
        Set { members: self.members_without(other), children }
    }

    /// Without the paths of `other` and whatever lies below them.
    pub(super) fn recursive_difference(&self, other: &Set) -> Set {
        let children = merged(&self.children, &other.children, by_element, |one, below| {
            let one = one?;
            match below {
                _ if other.has_member(&one.0) => None,
                Some(below) => kept(&one.0, one.1.recursive_difference(&below.1)),
                None => Some(one.clone()),
            }
        });
        Set { members: self.members_without(other), children }
    }

    fn members_without(&self, other: &Set) -> Vec<Element> {
        merged(
            &self.members,
            &other.members,
            Element::cmp,
            |one, other| {
                if other.is_some() { None } else { one.cloned() }
            },
        )
    }

    /// The paths of a set whose steps `keeps` approves, given the steps before; what `keeps` knows of a step, it is asked
    /// with again for the steps behind.
    pub(super) fn filtered<'p>(&self, patterns: &[&'p [&'p str]], only: bool) -> Set {
        if only && patterns.iter().any(|pattern| pattern.is_empty()) {
            return self.clone();
        }
        let rest = |element: &Element| -> Vec<&'p [&'p str]> {
            let matching = patterns.iter().filter_map(|pattern| pattern.split_first());
            matching.filter(|(first, _)| fits(element, first)).map(|(_, rest)| rest).collect()
        };
        let mut set = Set::default();
        for member in &self.members {
            let rest = rest(member);
            let keep = if only { !rest.is_empty() } else { rest.iter().all(|rest| !rest.is_empty()) };
            if keep {
                set.members.push(member.clone());
            }
        }
        for (element, below) in &self.children {
            let rest = rest(element);
            let below = match (only, rest.is_empty()) {
                (true, true) => continue,
                (false, true) => below.clone(),
                (false, false) if rest.iter().any(|rest| rest.is_empty()) => continue,
                _ => below.filtered(&rest, only),
            };
            set.children.extend(kept(element, below));
        }
        set
    }

    /// Each path of the set, those above before those below.
    pub(super) fn each(&self, visit: &mut impl FnMut(&[Element])) {
        self.each_below(&mut Vec::new(), visit);
    }

    fn each_below(&self, above: &mut Vec<Element>, visit: &mut impl FnMut(&[Element])) {
        for member in &self.members {
            above.push(member.clone());
            visit(above);
            above.pop();
        }
        for (element, below) in &self.children {
            above.push(element.clone());
            below.each_below(above, visit);
            above.pop();
        }
    }
}

fn fits(element: &Element, pattern: &str) -> bool {
    pattern == "*" || matches!(element, Element::Field(name) if **name == *pattern)
}

fn by_element(one: &(Element, Set), other: &(Element, Set)) -> Ordering {
    one.0.cmp(&other.0)
}

fn kept(element: &Element, below: Set) -> Option<(Element, Set)> {
    (!below.is_empty()).then(|| (element.clone(), below))
}

/// What `join` makes of each item that is in one or both sorted lists.
fn merged<'a, T>(
    ones: &'a [T],
    others: &'a [T],
    order: impl Fn(&T, &T) -> Ordering,
    join: impl Fn(Option<&'a T>, Option<&'a T>) -> Option<T>,
) -> Vec<T> {
    let mut out = Vec::with_capacity(ones.len().max(others.len()));
    let (mut ones, mut others) = (ones.iter().peekable(), others.iter().peekable());
    loop {
        let order = match (ones.peek(), others.peek()) {
            (None, None) => return out,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => order(one, other),
        };
        let one = if order.is_le() { ones.next() } else { None };
        let other = if order.is_ge() { others.next() } else { None };
        out.extend(join(one, other));
    }
}
