//! Sets of completion indexes of a Job, written as `1,3-5,7`.

/// An integer as Go's `strconv.Atoi` reads it.
///
/// # Errors
/// `parsing "x": invalid syntax`, or `value out of range`.
fn integer(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("parsing {text:?}: invalid syntax"));
    }
    text.parse().map_err(|_| format!("parsing {text:?}: value out of range"))
}

/// How many indexes there are in `text`, all of them below `completions`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut last: Option<i64> = None;
    let mut total = 0;
    for part in text.split(',') {
        let (start, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= start) {
            return Err(format!("non-increasing order, previous: {last}, current: {start}"));
        }
        total += end - start + 1;
        last = Some(end);
    }
    Ok(total)
}

/// Says at which index `completed` and `failed` overlap. Parts that are not well formed are told elsewhere and passed over.
///
/// # Errors
/// Where they do.
pub(super) fn apart(completed: &str, failed: &str, completions: i64) -> Result<(), String> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    let (mut left, mut right) = (completed.as_slice(), failed.as_slice());
    while let (Some((first, first_end)), Some((second, second_end))) = (left.first(), right.first()) {
        if first <= second_end && second <= first_end {
            return Err(format!(
                "failedIndexes and completedIndexes overlap at index: {}",
                first.max(second)
            ));
        }
        if first <= second {
            left = &left[1..];
        } else {
            right = &right[1..];
        }
    }
    Ok(())
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let bound = |text: &str| match integer(text) {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    let mut parts = text.split('-');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if third.is_some() {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated \
             by '-'"
        ));
    }
    let start = bound(first)?;
    let Some(second) = second else { return Ok((start, start)) };
    let end = bound(second)?;
    if start >= end {
        return Err(format!("non-increasing order, previous: {start}, current: {end}"));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_counted_and_refused() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (text, said) in [
            ("x", "cannot convert string to integer for index: \"x\""),
            ("5", "too large index: \"5\""),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                 separated by '-'",
            ),
        ] {
            assert_eq!(count(text, 5), Err(said.to_owned()), "{text}");
        }
        assert_eq!(apart("0-1,4", "2,3", 9), Ok(()));
        assert_eq!(
            apart("0-2,4", "2", 9),
            Err("failedIndexes and completedIndexes overlap at index: 2".to_owned())
        );
    }
}
