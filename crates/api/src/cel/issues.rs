//! What is wrong with an expression, as cel-go writes it.

/// One complaint, at a position in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// All complaints as one text: each with its line and column, the line itself, and a mark below the place.
pub(crate) fn render(source: &str, issues: &[Issue]) -> String {
    let mut sorted: Vec<&Issue> = issues.iter().collect();
    sorted.sort_by_key(|issue| issue.at);
    let texts: Vec<String> = sorted.into_iter().map(|issue| one(source, issue)).collect();
    texts.join("\n")
}

fn one(source: &str, issue: &Issue) -> String {
    let before: String = source.chars().take(issue.at).collect();
    let line = before.matches('\n').count();
    let column = before.chars().rev().take_while(|character| *character != '\n').count();
    let snippet = source.split('\n').nth(line).unwrap_or_default().replace('\t', " ");
    // Characters that are two columns wide get a mark as wide.
    let mark: String = snippet
        .chars()
        .take(column)
        .map(|character| if character.len_utf8() > 1 { '．' } else { '.' })
        .collect();
    let wide = snippet.chars().nth(column).is_some_and(|character| character.len_utf8() > 1);
    let tip = if wide { '＾' } else { '^' };
    format!("ERROR: <input>:{}:{}: {}\n | {snippet}\n | {mark}{tip}", line + 1, column + 1, issue.message)
}
