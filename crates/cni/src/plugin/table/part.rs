use kernel::nft::{Base, Chain, Expression, Family, Hook, Set, Transaction};

/// What one plugin has in an instance's tables: it alone makes elements of these sets, and no rule of another plugin is in
/// these chains.
#[derive(Debug)]
pub(in crate::plugin) struct Part {
    /// The family of the table that it is in.
    pub(in crate::plugin) family: Family,
    pub(in crate::plugin) sets: Vec<Set<'static>>,
    pub(in crate::plugin) chains: Vec<Chain<'static>>,
    pub(in crate::plugin) rules: Vec<Rule>,
}

/// A rule of a plugin's chain.
#[derive(Debug)]
pub(in crate::plugin) struct Rule {
    pub(in crate::plugin) chain: &'static str,
    /// Words for people.
    pub(in crate::plugin) comment: Option<&'static str>,
    pub(in crate::plugin) expressions: Vec<Expression<'static>>,
}

impl Rule {
    pub(in crate::plugin) fn new(
        chain: &'static str,
        expressions: impl IntoIterator<Item = Vec<Expression<'static>>>,
    ) -> Self {
        Self { chain, comment: None, expressions: expressions.into_iter().flatten().collect() }
    }

    pub(in crate::plugin) fn comment(self, words: &'static str) -> Self {
        Self { comment: Some(words), ..self }
    }
}

/// A chain that packets enter at `hook`; at its end they go on.
pub(in crate::plugin) fn base(
    name: &'static str,
    kind: &'static str,
    hook: Hook,
    priority: i32,
) -> Chain<'static> {
    Chain { name, base: Some(Base { kind, hook, priority, accept: true }) }
}

impl Part {
    /// The sets, where they are not there yet: elements of those that are stay.
    pub(super) fn add_sets(&self, table: &str, change: &mut Transaction) {
        self.sets.iter().for_each(|set| change.add_set(self.family, table, set));
    }

    /// The chains and their rules.
    pub(super) fn add_chains(&self, table: &str, change: &mut Transaction) {
        self.chains.iter().for_each(|chain| change.add_chain(self.family, table, chain));
        for Rule { chain, comment, expressions } in &self.rules {
            change.add_rule(self.family, table, chain, expressions, *comment);
        }
    }
}
