//! What plugins are called.

/// The name under which a plugin is known, if its index and name are as they have to be: `10` and `name`.
pub(super) fn full_name(index: &str, name: &str) -> Result<String, String> {
    if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("its index {index:?} is not of two digits"));
    }
    if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
        return Err(format!("{name:?} is no name"));
    }
    Ok(format!("{index}-{name}"))
}

/// Index and name of a plugin's program.
pub(super) fn of_program(file: &str) -> Result<(&str, &str), String> {
    let (index, name) = file.split_once('-').ok_or_else(|| format!("{file:?} is not called NN-NAME"))?;
    full_name(index, name).map(|_| (index, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_and_a_name() {
        assert_eq!(full_name("07", "a-b").unwrap(), "07-a-b");
        assert_eq!(of_program("10-topology-aware").unwrap(), ("10", "topology-aware"));
        for (index, name) in [("7", "a"), ("070", "a"), ("x1", "a"), ("07", ""), ("07", "a/b"), ("07", "a\n")]
        {
            full_name(index, name).unwrap_err();
        }
        of_program("plugin").unwrap_err();
        of_program("1-plugin").unwrap_err();
    }
}
