//! What is wrong with an expression, as cel-go writes it.

/// One complaint, at a position in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// So many complaints are told.
const MOST: usize = 100;
/// So many characters of a line are shown, where it is longer around the place.
const SHOWN: usize = 2000;

/// All complaints as one text: each with its line and column, the line itself, and a mark below the place.
pub(crate) fn render(source: &str, issues: &[Issue]) -> String {
    let mut sorted: Vec<&Issue> = issues.iter().collect();
    sorted.sort_by_key(|issue| issue.at);
    let more = sorted.len().saturating_sub(MOST);
    let mut texts: Vec<String> = sorted.into_iter().take(MOST).map(|issue| one(source, issue)).collect();
    texts.extend((more > 0).then(|| format!("and {more} more")));
    texts.join("\n")
}

fn one(source: &str, issue: &Issue) -> String {
    let before: String = source.chars().take(issue.at).collect();
    let line = before.matches('\n').count();
    let column = before.chars().rev().take_while(|character| *character != '\n').count();
    let whole = source.split('\n').nth(line).unwrap_or_default();
    let told = column;
    let from = if whole.chars().nth(SHOWN).is_some() { column.saturating_sub(SHOWN / 2) } else { 0 };
    let snippet: String =
        whole.chars().skip(from).take(SHOWN).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let column = column - from;
    // Characters that are two columns wide get a mark as wide.
    let mark: String = snippet
        .chars()
        .take(column)
        .map(|character| if character.len_utf8() > 1 { '．' } else { '.' })
        .collect();
    let wide = snippet.chars().nth(column).is_some_and(|character| character.len_utf8() > 1);
    let tip = if wide { '＾' } else { '^' };
    format!("ERROR: <input>:{}:{}: {}\n | {snippet}\n | {mark}{tip}", line + 1, told + 1, issue.message)
}
