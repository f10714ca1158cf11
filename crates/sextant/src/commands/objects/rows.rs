//! A list as the server would show it: the API's own Table.

use serde_json::Value;

use crate::objects::{Kind, list, number, shown, text};

/// What of a table is shown.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Columns {
    /// Those that people want seldom, too.
    pub(super) wide: bool,
    /// The namespace before all others.
    pub(super) namespace: bool,
    /// Names with their kind.
    pub(super) kind: bool,
}

/// Lines that stand below each other, also when more come later.
#[derive(Debug, Default)]
pub(super) struct Rows {
    columns: Columns,
    /// Where in a row what is shown is, and its heading.
    shown: Vec<(usize, String)>,
    /// The one that has the name.
    name: Option<usize>,
    widths: Vec<usize>,
}

impl Rows {
    pub(super) fn new(columns: Columns) -> Self {
        Self { columns, ..Self::default() }
    }

    /// The lines of a table; its headings before the first of them if they are wanted.
    pub(super) fn lines(&mut self, kind: &Kind, table: &Value, headings: bool) -> Vec<String> {
        let is_first = self.widths.is_empty();
        if is_first {
            self.read_columns(table);
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        if is_first && headings {
            let namespace = self.columns.namespace.then(|| "NAMESPACE".to_owned());
            rows.push(namespace.into_iter().chain(self.shown.iter().map(|(_, name)| name.clone())).collect());
        }
        rows.extend(list(table, "/rows").iter().map(|row| self.cells(kind, row)));
        self.widths.resize(self.shown.len() + usize::from(self.columns.namespace), 0);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    /// A watch's tables have columns in the first of them alone.
    fn read_columns(&mut self, table: &Value) {
        for (at, column) in list(table, "/columnDefinitions").iter().enumerate() {
            if self.columns.wide || number(column, "/priority") == 0 {
                self.shown.push((at, text(column, "/name").to_uppercase()));
            }
            if text(column, "/format") == "name" && self.name.is_none() {
                self.name = Some(at);
            }
        }
    }

    fn cells(&self, kind: &Kind, row: &Value) -> Vec<String> {
        let namespace = self.columns.namespace.then(|| text(row, "/object/metadata/namespace").to_owned());
        let cells = self.shown.iter().map(|(at, _)| {
            let cell = row.pointer(&format!("/cells/{at}")).map(cell).unwrap_or_default();
            if self.columns.kind && self.name == Some(*at) { kind.of(&cell) } else { cell }
        });
        namespace.into_iter().chain(cells).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let padded = row.iter().zip(&self.widths).map(|(cell, width)| format!("{cell:width$}   "));
        padded.collect::<String>().trim_end().to_owned()
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => match text.split_once('\n') {
            Some((first, _)) => shown(first) + "...",
            None => shown(text),
        },
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Value {
        json!({"columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Age"}, {"name": "IP", "priority": 1}],
               "rows": [{"cells": ["web", "5m", "10.0.0.1"], "object": {"metadata": {"namespace": "shop"}}},
                        {"cells": ["a-longer-one", "\u{1b}3\nx", null], "object": {"metadata": {"namespace": "b"}}}]})
    }

    #[test]
    fn a_table_is_shown_as_kubectl_shows_it() {
        let kind = Kind { singular: "pod".into(), ..Kind::default() };
        let lines = |columns, headings| Rows::new(columns).lines(&kind, &table(), headings);
        assert_eq!(
            lines(Columns::default(), true),
            ["NAME           AGE", "web            5m", "a-longer-one   ^[3..."]
        );
        let all = Columns { wide: true, namespace: true, kind: true };
        assert_eq!(
            lines(all, true)[..2],
            [
                "NAMESPACE   NAME               AGE      IP",
                "shop        pod/web            5m       10.0.0.1"
            ]
        );
        assert_eq!(lines(Columns::default(), false).len(), 2);
    }

    #[test]
    fn what_comes_later_stands_below() {
        let kind = Kind::default();
        let mut rows = Rows::new(Columns::default());
        rows.lines(&kind, &table(), true);
        let later = json!({"columnDefinitions": null, "rows": [{"cells": ["x", "1s", ""]}]});
        assert_eq!(rows.lines(&kind, &later, true), ["x              1s"]);
    }
}
