//! Text to tokens.

use super::ast::Literal;
use super::issues::Issue;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// Operators, brackets, and `true`, `false`, `null`, `in`.
    Symbol(&'static str),
    Literal(Literal),
    /// A number that does not fit its type; the word is `int`, `uint` or `double`.
    BadNumber(&'static str),
    End,
}

/// A token, where it begins (in characters), and its text.
#[derive(Clone, Debug)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) at: usize,
    pub(crate) text: String,
}

const SYMBOLS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "in", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%", "true", "false",
];

/// Splits `text` into tokens, of which the last is [`Token::End`]; tells what is none.
pub(crate) fn tokens(text: &str, issues: &mut Vec<Issue>) -> Vec<Lexeme> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { chars: &chars, at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip();
        let at = lexer.at;
        let next = lexer.next();
        // A string that ends within an escape has no more characters to skip.
        lexer.at = lexer.at.min(chars.len());
        match next {
            Ok(token) => {
                let end = token == Token::End;
                out.push(Lexeme { token, at, text: chars[at..lexer.at].iter().collect() });
                if end {
                    return out;
                }
            }
            // What is no token is left out.
            Err(issue) => issues.push(issue),
        }
    }
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip(&mut self) {
        loop {
            match self.peek(0) {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == '/' => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn next(&mut self) -> Result<Token, Issue> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        let first = self.peek(0);
        if let Some(prefix) = self.string_prefix() {
            return self.string(prefix);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(self.word());
        }
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return Ok(self.number());
        }
        for symbol in SYMBOLS {
            let length = symbol.len();
            if symbol.chars().enumerate().all(|(i, c)| self.peek(i) == c)
                && self.at + length <= self.chars.len()
            {
                self.at += length;
                return Ok(Token::Symbol(symbol));
            }
        }
        // Half an operator takes the next character with it.
        let half = matches!(first, '=' | '&' | '|') && self.at + 1 < self.chars.len();
        let at = self.at;
        self.at += if half { 2 } else { 1 };
        let text: String = self.chars[at..self.at].iter().collect();
        let text = text.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r");
        Err(Issue { at, message: format!("Syntax error: token recognition error at: '{text}'") })
    }

    fn word(&mut self) -> Token {
        let begin = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
            self.at += 1;
        }
        let word: String = self.chars[begin..self.at].iter().collect();
        match word.as_str() {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Symbol("in"),
            _ => Token::Ident(word),
        }
    }

    fn number(&mut self) -> Token {
        let begin = self.at;
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            let digits = self.take(|c| c.is_ascii_hexdigit());
            return self.integer(&digits, 16);
        }
        let digits = self.take(|c| c.is_ascii_digit());
        let mut double = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            double = true;
            self.at += 1;
            self.take(|c| c.is_ascii_digit());
        }
        let sign = usize::from(matches!(self.peek(1), '+' | '-'));
        if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + sign).is_ascii_digit() {
            double = true;
            self.at += 1 + sign;
            self.take(|c| c.is_ascii_digit());
        }
        if !double {
            return self.integer(&digits, 10);
        }
        let text: String = self.chars[begin..self.at].iter().collect();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Token::Literal(Literal::Double(number)),
            _ => Token::BadNumber("double"),
        }
    }

    /// Digits of an integer as an unsigned literal, or as an int of its absolute value: the sign is the parser's.
    fn integer(&mut self, digits: &str, radix: u32) -> Token {
        let number = u64::from_str_radix(digits, radix);
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return number.map_or(Token::BadNumber("uint"), |number| Token::Literal(Literal::Uint(number)));
        }
        match number {
            // The one number whose absolute value does not fit.
            Ok(number) if number == 1 << 63 => Token::BadNumber("min"),
            Ok(number) => i64::try_from(number)
                .map_or(Token::BadNumber("int"), |number| Token::Literal(Literal::Int(number))),
            Err(_) => Token::BadNumber("int"),
        }
    }

    fn take(&mut self, accept: impl Fn(char) -> bool) -> String {
        let begin = self.at;
        while self.at < self.chars.len() && accept(self.peek(0)) {
            self.at += 1;
        }
        self.chars[begin..self.at].iter().collect()
    }

    /// How many letters before the quote of a string that begins here.
    fn string_prefix(&self) -> Option<usize> {
        let mut ahead = 0;
        while ahead < 2 && matches!(self.peek(ahead), 'r' | 'R' | 'b' | 'B') {
            ahead += 1;
        }
        let same = ahead == 2 && self.peek(0).eq_ignore_ascii_case(&self.peek(1));
        (matches!(self.peek(ahead), '"' | '\'') && !same).then_some(ahead)
    }

    fn string(&mut self, prefix: usize) -> Result<Token, Issue> {
        let begin = self.at;
        let letters: String =
            self.chars[begin..begin + prefix].iter().collect::<String>().to_ascii_lowercase();
        let (raw, bytes) = (letters.contains('r'), letters.contains('b'));
        self.at += prefix;
        let quote = self.peek(0);
        let long = self.peek(1) == quote && self.peek(2) == quote;
        self.at += if long { 3 } else { 1 };
        let mut out = Vec::new();
        let closed = |lexer: &Self| {
            lexer.peek(0) == quote && (!long || (lexer.peek(1) == quote && lexer.peek(2) == quote))
        };
        while !closed(self) {
            let character = self.peek(0);
            if self.at >= self.chars.len() || (!long && matches!(character, '\n' | '\r')) {
                let rest: String = self.chars[begin..self.at].iter().collect();
                let message = format!("Syntax error: token recognition error at: '{rest}'");
                return Err(Issue { at: begin, message });
            }
            self.at += 1;
            if character == '\\' && !raw {
                self.escape(&mut out, bytes)
                    .ok_or_else(|| Issue { at: begin, message: "unable to unescape string".to_owned() })?;
            } else {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.at += if long { 3 } else { 1 };
        if bytes {
            return Ok(Token::Literal(Literal::Bytes(out.into())));
        }
        match String::from_utf8(out) {
            Ok(text) => Ok(Token::Literal(Literal::String(text.into()))),
            Err(_) => Err(Issue { at: begin, message: "invalid UTF-8 in string".to_owned() }),
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, out: &mut Vec<u8>, bytes: bool) -> Option<()> {
        let letter = self.peek(0);
        self.at += 1;
        let simple = match letter {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => u8::try_from(letter).ok()?,
            _ => 0,
        };
        if simple != 0 {
            out.push(simple);
            return Some(());
        }
        let (digits, radix) = match letter {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return None,
        };
        let text: String = (0..digits).map(|ahead| self.peek(ahead)).collect();
        let code = u32::from_str_radix(&text, radix).ok()?;
        self.at += digits;
        if bytes {
            out.push(u8::try_from(code).ok()?);
        } else {
            out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Some(())
    }
}
