//! The command line: a table of options a command, read as runc reads its own.
//!
//! Options stand before or after the container's id, as `--name value`, `--name=value` or `-name value`; short ones may
//! be bundled (`-td`). A switch can be turned off again by `--name=false`.

use super::failure::Failure;

/// One option.
#[derive(Debug)]
pub(crate) struct Opt {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// What its value is called; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
}

/// A switch.
pub(crate) const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Opt {
    Opt { long, short, value: None, help }
}

/// An option with a value.
pub(crate) const fn value(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
) -> Opt {
    Opt { long, short, value: Some(value), help }
}

/// What follows a number of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing: a further word is an error.
    None,
    /// A command with options of its own, which begins with the next word.
    Command,
    /// All of the rest as it is, whether it looks like an option or not.
    Everything,
}

/// The words that a command takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    pub(crate) least: usize,
    /// So many words are the command's own; then comes the rest.
    pub(crate) own: usize,
    pub(crate) rest: Rest,
}

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    options: Vec<(&'static str, String)>,
    pub(crate) words: Vec<String>,
}

impl Given {
    /// The last value of an option.
    pub(crate) fn get(&self, long: &str) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// All values of an option, in their order.
    pub(crate) fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.get(long) == Some("true")
    }

    /// The option's value as a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, long: &str) -> Result<Option<T>, Failure> {
        self.get(long).map(|text| parse_number(long, text)).transpose()
    }

    /// The container's id.
    pub(crate) fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

pub(crate) fn parse_number<T: std::str::FromStr>(long: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("cannot use --{long} {text:?}: give a number")))
}

/// Reads options up to the first word: those of the program itself. Returns what is left.
pub(crate) fn global(table: &'static [Opt], args: &[String]) -> Result<(Given, Vec<String>), Failure> {
    let mut given = Given::default();
    let mut args = args.iter().cloned().peekable();
    while let Some(arg) = args.next_if(|arg| arg.len() > 1 && arg.starts_with('-')) {
        if arg == "--" {
            break;
        }
        take(table, &arg, &mut args, &mut given)?;
    }
    Ok((given, args.collect()))
}

/// Reads the options and words of a command.
pub(crate) fn command(table: &'static [Opt], words: Words, args: Vec<String>) -> Result<Given, Failure> {
    let mut given = Given::default();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let own = given.words.len() < words.own;
        let is_option = arg.len() > 1 && arg.starts_with('-');
        if arg == "--" {
            given.words.extend(args.by_ref());
        } else if is_option && (own || words.rest != Rest::Everything) {
            take(table, &arg, &mut args, &mut given)?;
        } else {
            given.words.push(arg);
            if !own {
                given.words.extend(args.by_ref());
            }
        }
    }
    if given.has("help") {
        return Ok(given);
    }
    if given.words.len() < words.least {
        let missing = if given.words.is_empty() { "the container's id" } else { "an argument" };
        return Err(Failure::usage(format!("cannot go on: {missing} is missing (see --help)")));
    }
    if words.rest == Rest::None
        && let Some(extra) = given.words.get(words.own)
    {
        return Err(Failure::usage(format!(
            "cannot use argument {extra:?}: it is one too many (see --help)"
        )));
    }
    Ok(given)
}

/// Takes one option, with its value if that is the next argument.
fn take(
    table: &'static [Opt],
    arg: &str,
    args: &mut impl Iterator<Item = String>,
    given: &mut Given,
) -> Result<(), Failure> {
    let name = arg.trim_start_matches('-');
    let (name, inline) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (name, None),
    };
    let single = name.chars().next().filter(|_| name.chars().count() == 1);
    let found = table.iter().find(|opt| opt.long == name || (single.is_some() && opt.short == single));
    let Some(opt) = found else {
        if !arg.starts_with("--") && inline.is_none() && name.chars().count() > 1 {
            return bundle(table, name, args, given);
        }
        return Err(unknown(table, name));
    };
    put(opt, inline, args, given)
}

/// Several short options in one argument; the last may have a value.
fn bundle(
    table: &'static [Opt],
    letters: &str,
    args: &mut impl Iterator<Item = String>,
    given: &mut Given,
) -> Result<(), Failure> {
    let opts: Option<Vec<&Opt>> =
        letters.chars().map(|letter| table.iter().find(|opt| opt.short == Some(letter))).collect();
    let opts = opts.ok_or_else(|| unknown(table, letters))?;
    let last = opts.len() - 1;
    if opts[..last].iter().any(|opt| opt.value.is_some()) {
        return Err(unknown(table, letters));
    }
    opts.into_iter().try_for_each(|opt| put(opt, None, args, given))
}

fn put(
    opt: &'static Opt,
    inline: Option<String>,
    args: &mut impl Iterator<Item = String>,
    given: &mut Given,
) -> Result<(), Failure> {
    let value = match (opt.value, inline) {
        (None, None) => "true".to_owned(),
        (None, Some(text)) => match text.as_str() {
            "true" | "1" | "t" => "true".to_owned(),
            "false" | "0" | "f" => "false".to_owned(),
            _ => {
                let message = format!("cannot use --{}={text}: it is a switch; give true or false", opt.long);
                return Err(Failure::usage(message));
            }
        },
        (Some(_), Some(text)) => text,
        (Some(what), None) => args.next().ok_or_else(|| {
            Failure::usage(format!("cannot use --{}: its value is missing; give {what}", opt.long))
        })?,
    };
    given.options.push((opt.long, value));
    Ok(())
}

fn unknown(table: &[Opt], name: &str) -> Failure {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    let near = nearest(name, table.iter().map(|opt| opt.long));
    let hint = near.map_or_else(|| "see --help".to_owned(), |near| format!("did you mean --{near}?"));
    Failure::usage(format!("cannot use option {dashes}{name}: there is no such option ({hint})"))
}

/// The name that is the fewest changes away, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let reach = 1 + word.len() / 4;
    names.map(|name| (distance(word, name), name)).filter(|(d, _)| *d <= reach).min().map(|(_, name)| name)
}

/// How many letters must be added, taken away or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = corner + usize::from(letter != *other);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: [Opt; 4] = [
        switch("detach", Some('d'), ""),
        switch("tty", Some('t'), ""),
        value("bundle", Some('b'), "DIR", ""),
        value("env", Some('e'), "NAME=VALUE", ""),
    ];

    fn read(words: Words, line: &str) -> Result<Given, Failure> {
        command(&TABLE, words, line.split_whitespace().map(str::to_owned).collect())
    }

    const ONE: Words = Words { least: 1, own: 1, rest: Rest::None };
    const EXEC: Words = Words { least: 1, own: 1, rest: Rest::Command };

    #[test]
    fn options_stand_on_either_side_of_the_id() {
        for line in ["--bundle /b c", "c --bundle /b", "-b /b c", "c --bundle=/b", "-bundle=/b c", "-db /b c"]
        {
            let given = read(ONE, line).unwrap();
            assert_eq!((given.get("bundle"), given.id()), (Some("/b"), "c"), "{line}");
        }
        assert!(!read(ONE, "-d --detach=false c").unwrap().has("detach"));
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let given = read(EXEC, "-td c --env A=1 ls -d --bundle x").unwrap();
        assert!(given.has("tty") && given.has("detach"));
        assert_eq!(given.get("env"), Some("A=1"));
        assert_eq!(given.words[1..], ["ls", "-d", "--bundle", "x"]);
        assert_eq!(read(EXEC, "c -- -d").unwrap().words, ["c", "-d"]);
        let all = Words { rest: Rest::Everything, ..EXEC };
        assert_eq!(read(all, "-t c -d x").unwrap().words, ["c", "-d", "x"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("--bundel x c", "did you mean --bundle?"),
            ("-x c", "option -x"),
            ("-dx c", "--dx"),
            ("c --bundle", "its value is missing"),
            ("--tty=perhaps c", "give true or false"),
            ("", "id is missing"),
            ("c d", "\"d\""),
        ] {
            let message = read(ONE, line).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }

    #[test]
    fn near_names_are_found() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("strat", ["start", "state"].into_iter()), Some("start"));
        assert_eq!(nearest("zzz", ["start"].into_iter()), None);
    }
}
