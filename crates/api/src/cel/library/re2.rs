//! Go's regular expressions (RE2) in the syntax of the crate `regex`: the two differ in classes, escapes, braces and in
//! what they refuse, and definitions are written for Go's.
//!
//! What is refused is told in the words of Go's `regexp/syntax`. No group captures: nobody asks for one.

/// How deep groups may nest.
const DEPTH: usize = 200;
/// How often something may be repeated, nested repetitions multiplied.
const REPEATS: u32 = 1000;

/// The same expression for the crate `regex`.
///
/// # Errors
/// Why Go refuses it: `error parsing regexp: ...`.
pub(crate) fn translated(pattern: &str) -> Result<String, String> {
    let mut reader = Reader { text: pattern, at: 0, out: String::with_capacity(pattern.len() * 2), flags: 0 };
    match reader.group(0) {
        Ok(_) if reader.at < pattern.len() => Err(told("unexpected )", pattern)),
        Ok(_) => Ok(reader.out),
        Err(refused) => Err(refused),
    }
}

/// A refusal in Go's words; `what` is the part that is meant.
pub(crate) fn told(why: &str, what: &str) -> String {
    format!("error parsing regexp: {why}: `{what}`")
}

/// The flags that can be set, as bits of [`Reader::flags`].
const FLAGS: [char; 4] = ['i', 'm', 's', 'U'];

/// General categories by their short and long names, without what names may be written with between their letters.
/// Whatever else stands in `\p{...}` is the name of a script.
const CATEGORIES: &str = " any assigned ascii c cc cf cn co cs l lc ll lm lo lt lu m mc me mn n nd nl no p pc pd pe pf pi po ps s \
     sc sk sm so z zl zp zs casedletter closepunctuation combiningmark connectorpunctuation control \
     currencysymbol dashpunctuation decimalnumber enclosingmark finalpunctuation format initialpunctuation \
     letter letternumber lineseparator lowercaseletter mark mathsymbol modifierletter modifiersymbol \
     nonspacingmark number openpunctuation other otherletter othernumber otherpunctuation othersymbol \
     paragraphseparator privateuse punctuation separator spaceseparator spacingmark surrogate symbol \
     titlecaseletter unassigned uppercaseletter punct digit cntrl ";

struct Reader<'p> {
    text: &'p str,
    at: usize,
    out: String,
    flags: u8,
}

/// How often the innermost part of what has been read is repeated at most.
type Repeated = u32;

/// Something that a repetition can follow: where it begins in what is written, where it ends, how often it repeats.
#[derive(Clone, Copy)]
struct Atom {
    end: usize,
    repeated: Repeated,
}

impl<'p> Reader<'p> {
    fn rest(&self) -> &'p str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Reads up to the parenthesis that closes the group, or to the end.
    fn group(&mut self, depth: usize) -> Result<Repeated, String> {
        if depth > DEPTH {
            return Err(told("expression nests too deeply", self.text));
        }
        let flags = self.flags;
        let mut most = 1;
        let mut atom: Option<Atom> = None;
        // Where a repetition began, if the token before was one.
        let mut repetition: Option<usize> = None;
        while let Some(next) = self.peek() {
            let begin = self.at;
            let mut repeats = None;
            match next {
                ')' => break,
                '(' if self.rest().starts_with("(?") => {
                    let outer = self.flags;
                    if self.perl_group()? {
                        atom = Some(self.closed(depth)?);
                        self.flags = outer;
                    }
                }
                '(' => {
                    self.at += 1;
                    self.out.push_str("(?:");
                    atom = Some(self.closed(depth)?);
                }
                '|' => {
                    self.at += 1;
                    self.out.push('|');
                    atom = None;
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    atom = Some(self.repeat(atom, begin, repetition, None)?);
                    repeats = Some(begin);
                }
                '{' => match self.braces() {
                    Some(counts) => {
                        atom = Some(self.repeat(atom, begin, repetition, Some(counts))?);
                        repeats = Some(begin);
                    }
                    None => {
                        self.at += 1;
                        atom = Some(self.literal('{'));
                    }
                },
                _ => {
                    if self.single(next)? {
                        atom = Some(self.atom(1));
                    }
                }
            }
            repetition = repeats;
            most = most.max(atom.map_or(1, |atom| atom.repeated));
        }
        self.flags = flags;
        Ok(most)
    }

    /// Reads the rest of a group that has been opened.
    fn closed(&mut self, depth: usize) -> Result<Atom, String> {
        let repeated = self.group(depth + 1)?;
        if self.next() != Some(')') {
            return Err(told("missing closing )", self.text));
        }
        self.out.push(')');
        Ok(self.atom(repeated))
    }

    fn atom(&self, repeated: Repeated) -> Atom {
        Atom { end: self.out.len(), repeated }
    }

    fn write(&mut self, character: char) {
        if character.is_ascii_alphanumeric() || character == '_' {
            self.out.push(character);
        } else {
            self.out.push_str(&format!("\\x{{{:X}}}", u32::from(character)));
        }
    }

    fn literal(&mut self, character: char) -> Atom {
        self.write(character);
        self.atom(1)
    }

    /// A token that is no group and no repetition; false where it matches nothing by itself (`\Q\E`).
    fn single(&mut self, next: char) -> Result<bool, String> {
        match next {
            '^' => self.token(1, "(?:^)"),
            '$' => self.token(1, "(?:$)"),
            '.' => self.token(1, "."),
            '[' => self.class()?,
            '\\' => return self.escape(),
            character => {
                self.at += character.len_utf8();
                self.write(character);
            }
        }
        Ok(true)
    }

    fn token(&mut self, length: usize, written: &str) {
        self.at += length;
        self.out.push_str(written);
    }

    fn escape(&mut self) -> Result<bool, String> {
        match self.rest().chars().nth(1) {
            Some('A') => self.token(2, "(?:\\A)"),
            Some('z') => self.token(2, "(?:\\z)"),
            Some('b') => self.token(2, "(?-u:\\b)"),
            Some('B') => self.token(2, "(?-u:\\B)"),
            Some('C') => return Err(told("invalid escape sequence", "\\C")),
            Some('Q') => {
                self.at += 2;
                let (quoted, length) = match self.rest().split_once("\\E") {
                    Some((quoted, _)) => (quoted, quoted.len() + 2),
                    None => (self.rest(), self.rest().len()),
                };
                quoted.chars().for_each(|character| self.write(character));
                self.at += length;
                return Ok(!quoted.is_empty());
            }
            _ => {
                if !self.named_class(false)? {
                    match self.escaped()? {
                        Some(character) => self.write(character),
                        None => self.out.push_str(NEVER),
                    }
                }
            }
        }
        Ok(true)
    }

    /// `\d`, `\pN`, `\p{Greek}` and the like, in brackets or not; false where something else stands there.
    fn named_class(&mut self, bracketed: bool) -> Result<bool, String> {
        let rest = self.rest();
        let mut characters = rest.chars();
        if characters.next() != Some('\\') {
            return Ok(false);
        }
        let Some(kind) = characters.next() else { return Ok(false) };
        let (set, negated) = match kind {
            'd' | 'D' => ("0-9", kind == 'D'),
            's' | 'S' => ("\\t\\n\\x0C\\r ", kind == 'S'),
            'w' | 'W' => ("0-9A-Za-z_", kind == 'W'),
            'p' | 'P' => return self.property(kind == 'P').map(|()| true),
            _ => return Ok(false),
        };
        self.at += 2;
        self.out.push_str(&match (bracketed, negated) {
            (true, false) => set.to_owned(),
            (_, true) => format!("[^{set}]"),
            (false, false) => format!("[{set}]"),
        });
        Ok(true)
    }

    fn property(&mut self, mut negated: bool) -> Result<(), String> {
        let rest = self.rest();
        let refused = |what: &str| Err(told("invalid character class range", what));
        let Some(first) = rest.chars().nth(2) else {
            return refused(rest);
        };
        let (seen, name) = if first == '{' {
            let Some(end) = rest.find('}') else { return refused(rest) };
            (&rest[..=end], &rest[3..end])
        } else {
            let end = 2 + first.len_utf8();
            (&rest[..end], &rest[2..end])
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negated = !negated;
                name
            }
            None => name,
        };
        let plain: String =
            name.chars().filter(|c| !" _-".contains(*c)).map(|c| c.to_ascii_lowercase()).collect();
        if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return refused(seen);
        }
        let kind = if CATEGORIES.contains(&format!(" {plain} ")) { "gc" } else { "sc" };
        let written = format!("\\{}{{{kind}={plain}}}", if negated { 'P' } else { 'p' });
        // Nothing but the crate knows which scripts there are.
        if kind == "sc" && regex::Regex::new(&written).is_err() {
            return refused(seen);
        }
        self.at += seen.len();
        self.out.push_str(&written);
        Ok(())
    }

    /// An escaped character; `None` of a surrogate, which no text has.
    fn escaped(&mut self) -> Result<Option<char>, String> {
        let begin = self.at;
        self.at += 1;
        let Some(kind) = self.next() else {
            return Err(told("trailing backslash at end of expression", ""));
        };
        let code = match kind {
            '1'..='7' if !matches!(self.peek(), Some('0'..='7')) => None,
            '0'..='7' => {
                let mut code = u32::from(kind) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|next| next.to_digit(8)) else { break };
                    self.at += 1;
                    code = code * 8 + digit;
                }
                Some(code)
            }
            'x' => self.hexadecimal(),
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(u32::from(other)),
            _ => None,
        };
        code.map(char::from_u32).ok_or_else(|| told("invalid escape sequence", &self.text[begin..self.at]))
    }

    /// The digits after `\x`.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.next()?;
        if first != '{' {
            let second = self.next();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let mut code = None;
        loop {
            match self.next()? {
                '}' => return code,
                digit => {
                    let next = code.unwrap_or(0) * 16 + digit.to_digit(16)?;
                    code = Some(next).filter(|code| *code <= 0x10_FFFF);
                    code?;
                }
            }
        }
    }

    /// `[...]`.
    fn class(&mut self) -> Result<(), String> {
        let whole = self.rest();
        self.at += 1;
        self.out.push('[');
        if self.peek() == Some('^') {
            self.at += 1;
            self.out.push('^');
        }
        // The nested class of nothing, so that the class is one whatever follows.
        self.out.push_str(NEVER);
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if self.posix()? || self.named_class(true)? {
                continue;
            }
            let begin = self.at;
            let low = self.class_character(whole)?;
            let mut high = low;
            let mut following = self.rest().chars();
            if following.next() == Some('-') && following.next().is_some_and(|next| next != ']') {
                self.at += 1;
                high = self.class_character(whole)?;
                if high < low {
                    return Err(told("invalid character class range", &self.text[begin..self.at]));
                }
            }
            self.range(low, high);
        }
        self.at += 1;
        self.out.push(']');
        Ok(())
    }

    /// A range of code points without the surrogates, which no text has.
    fn range(&mut self, low: u32, high: u32) {
        for (from, to) in [(low, high.min(0xD7FF)), (low.max(0xE000), high)] {
            if from <= to {
                self.out.push_str(&format!("\\x{{{from:X}}}-\\x{{{to:X}}}"));
            }
        }
    }

    fn class_character(&mut self, whole: &str) -> Result<u32, String> {
        match self.peek() {
            None => Err(told("missing closing ]", whole)),
            Some('\\') => Ok(self.escaped()?.map_or(0xD800, u32::from)),
            Some(character) => {
                self.at += character.len_utf8();
                Ok(u32::from(character))
            }
        }
    }

    /// `[:alpha:]`; false where none stands there.
    fn posix(&mut self) -> Result<bool, String> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        let rest = self.rest();
        let Some(inner) = rest.strip_prefix("[:").filter(|inner| !inner.is_empty()) else { return Ok(false) };
        let Some(end) = inner.find(":]") else { return Ok(false) };
        let whole = &rest[..end + 4];
        let name = inner[..end].strip_prefix('^').unwrap_or(&inner[..end]);
        if !NAMES.contains(&name) {
            return Err(told("invalid character class range", whole));
        }
        self.at += whole.len();
        self.out.push_str(whole);
        Ok(true)
    }

    /// What follows `(?`: true where a group was opened, false where flags were set.
    fn perl_group(&mut self) -> Result<bool, String> {
        let rest = self.rest();
        let named =
            ["(?P<", "(?<"].into_iter().find(|start| rest.starts_with(start) && rest.len() > start.len());
        if let Some(start) = named {
            let refused = |what: &str| Err(told("invalid named capture", what));
            let Some(end) = rest.find('>') else { return refused(rest) };
            let name = &rest[start.len()..end];
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return refused(&rest[..=end]);
            }
            self.at += end + 1;
            self.out.push_str("(?:");
            return Ok(true);
        }
        let begin = self.at;
        self.at += 2;
        let (mut on, mut off, mut negative, mut seen) = (0_u8, 0_u8, false, false);
        while let Some(next) = self.next() {
            let flag = FLAGS.iter().position(|flag| *flag == next);
            match (next, flag) {
                (_, Some(bit)) => {
                    let (set, unset) = if negative { (&mut off, &mut on) } else { (&mut on, &mut off) };
                    *set |= 1 << bit;
                    *unset &= !(1 << bit);
                    seen = true;
                }
                ('-', _) if !negative => (negative, seen) = (true, false),
                (':' | ')', _) if !negative || seen => {
                    self.flags = (self.flags | on) & !off;
                    self.open(next);
                    return Ok(next == ':');
                }
                _ => break,
            }
        }
        Err(told("invalid or unsupported Perl syntax", &self.text[begin..self.at]))
    }

    /// Writes the flags as they are now, before a group or for what follows.
    fn open(&mut self, end: char) {
        let among = |wanted: bool| {
            FLAGS
                .iter()
                .enumerate()
                .filter(|(bit, _)| (self.flags & (1 << bit) != 0) == wanted)
                .map(|(_, flag)| *flag)
                .collect::<String>()
        };
        let (on, off) = (among(true), among(false));
        let dash = if off.is_empty() { "" } else { "-" };
        self.out.push_str(&format!("(?{on}{dash}{off}{end}"));
    }

    /// `{2}`, `{2,}`, `{2,5}`: the least and the most (`None`: any number); `None` where the brace is no repetition.
    /// Numbers that are too big are told as such.
    fn braces(&mut self) -> Option<(u32, Option<u32>)> {
        const HUGE: u32 = u32::MAX;
        let inner = self.rest().strip_prefix('{')?;
        let end = inner.find('}')?;
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            (plain && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().unwrap_or(HUGE))
        };
        let counts = match inner[..end].split_once(',') {
            None => {
                let count = number(&inner[..end])?;
                (count, Some(count))
            }
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        self.at += end + 2;
        Some(counts)
    }

    /// A repetition of `atom` that began at `begin`; `before`: where the one that it follows began.
    fn repeat(
        &mut self,
        atom: Option<Atom>,
        begin: usize,
        before: Option<usize>,
        counts: Option<(u32, Option<u32>)>,
    ) -> Result<Atom, String> {
        let operator = &self.text[begin..self.at];
        let size = |what: &str| Err(told("invalid repeat count", what));
        if let Some((least, most)) = counts
            && (least > REPEATS || most.is_some_and(|most| most > REPEATS || least > most))
        {
            return size(operator);
        }
        if self.peek() == Some('?') {
            self.at += 1;
        }
        let written = &self.text[begin..self.at];
        if let Some(before) = before {
            return Err(told("invalid nested repetition operator", &self.text[before..self.at]));
        }
        let Some(mut atom) = atom else {
            return Err(told("missing argument to repetition operator", written));
        };
        if let Some((least, most)) = counts {
            match most.unwrap_or(least) {
                0 if most == Some(0) => atom.repeated = 1,
                0 => {}
                times => atom.repeated = atom.repeated.saturating_mul(times),
            }
            if (least >= 2 || most.is_some_and(|most| most >= 2)) && atom.repeated > REPEATS {
                return size(written);
            }
        }
        // Flags may stand between the two, which repeat nothing.
        self.out.insert_str(atom.end, written);
        atom.end += written.len();
        Ok(atom)
    }
}

/// A class that nothing is in.
const NEVER: &str = "[^\\x{0}-\\x{10FFFF}]";
