//! What docs/write-a-provider.md shows stands in the examples that it tells of, which are compiled and run.
#![allow(clippy::unwrap_used, reason = "a test")]

const PAGE: &str = include_str!("../../../docs/write-a-provider.md");
/// Languages, and the examples in them.
const EXAMPLES: [(&str, &str); 2] = [
    ("rust", include_str!("../examples/rack.rs")),
    ("python", include_str!("../../../examples/cloud/rack.py")),
];

/// A text without what is only its place in a file.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn what_the_page_shows_is_in_the_examples() {
    for (language, example) in EXAMPLES {
        let all = lines(example);
        let mut shown = 0;
        for block in PAGE.split(&format!("```{language}\n")).skip(1) {
            let block = lines(block.split("```").next().unwrap());
            // What is left out of it is in between.
            for part in block.split(|line| *line == "// ...") {
                assert!(
                    all.windows(part.len().max(1)).any(|some| some == part),
                    "not in the example: {part:#?}"
                );
                shown += part.len();
            }
        }
        assert!(shown > 15, "the page shows {shown} lines of that in {language}");
    }
}
