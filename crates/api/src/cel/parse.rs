//! Tokens to expressions.

use super::ast::{Expr, Kind, Literal};
use super::issues::Issue;
use super::lex::{self, Lexeme, Token};
use super::macros;

/// How deep an expression may nest.
const DEPTH: usize = 100;
/// Levels that an expression may have: whoever walks it goes down as deep.
const HEIGHT: usize = 300;
/// How many nodes an expression may have, macros expanded.
const NODES: usize = 100_000;
/// How long an expression may be, in code points.
const LENGTH: usize = 100_000;

/// Reads an expression.
///
/// # Errors
/// The complaints: what is no token, and the first thing that does not fit.
pub(crate) fn parse(text: &str) -> Result<(Expr, usize), Vec<Issue>> {
    let length = text.chars().count();
    if length > LENGTH {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {LENGTH}");
        return Err(vec![Issue { at: 0, message }]);
    }
    let mut issues = Vec::new();
    let lexemes = lex::tokens(text, &mut issues);
    let mut parser = Parser { lexemes, next: 0, ids: 0, depth: 0, tallest: 0, arguments: None };
    match parser.whole() {
        Ok(expr) if issues.is_empty() => return Ok((expr, parser.ids)),
        Ok(_) => {}
        Err(issue) => issues.push(issue),
    }
    Err(issues)
}

/// The reader; macros make their nodes through it.
pub(crate) struct Parser {
    lexemes: Vec<Lexeme>,
    next: usize,
    ids: usize,
    depth: usize,
    /// Levels of the tallest expression so far.
    tallest: usize,
    /// Where the arguments of the innermost call begin.
    arguments: Option<usize>,
}

type Parsed<T = Expr> = Result<T, Issue>;

impl Parser {
    fn whole(&mut self) -> Parsed {
        let expr = self.expression()?;
        if self.token() == &Token::End {
            return Ok(expr);
        }
        let last = self.lexemes.get(self.next + 1).is_some_and(|next| next.token == Token::End);
        let word = if last { "extraneous" } else { "mismatched" };
        let message = format!("Syntax error: {word} input '{}' expecting <EOF>", self.lexeme().text);
        Err(Issue { at: self.at(), message })
    }

    fn lexeme(&self) -> &Lexeme {
        &self.lexemes[self.next]
    }

    fn token(&self) -> &Token {
        &self.lexeme().token
    }

    fn at(&self) -> usize {
        self.lexeme().at
    }

    fn advance(&mut self) -> Lexeme {
        let lexeme = self.lexeme().clone();
        if lexeme.token != Token::End {
            self.next += 1;
        }
        lexeme
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token(), Token::Symbol(found) if *found == symbol)
    }

    fn eat(&mut self, symbol: &str) -> Option<usize> {
        let at = self.at();
        self.is(symbol).then(|| {
            self.next += 1;
            at
        })
    }

    fn expect(&mut self, symbol: &str) -> Parsed<usize> {
        self.eat(symbol).ok_or_else(|| {
            let next = self.lexemes.get(self.next + 1).map(|next| &next.token);
            if self.token() == &Token::End && symbol == ")" {
                let message = format!("Syntax error: missing '{symbol}' at '<EOF>'");
                return Issue { at: self.at(), message };
            }
            // Without this one token it would be right.
            if matches!(next, Some(Token::Symbol(found)) if *found == symbol) {
                let text = &self.lexeme().text;
                let message = format!("Syntax error: extraneous input '{text}' expecting '{symbol}'");
                return Issue { at: self.at(), message };
            }
            self.unexpected(&format!("'{symbol}'"))
        })
    }

    fn unexpected(&self, expected: &str) -> Issue {
        let text = if self.token() == &Token::End { "<EOF>" } else { &self.lexeme().text };
        Issue {
            at: self.at(),
            message: format!("Syntax error: mismatched input '{text}' expecting {expected}"),
        }
    }

    /// A new node.
    pub(crate) fn node(&mut self, at: usize, kind: Kind) -> Expr {
        self.ids += 1;
        let height = kind.below() + 1;
        self.tallest = self.tallest.max(height);
        Expr { id: self.ids - 1, at, height, kind }
    }

    /// A new call.
    pub(crate) fn call(&mut self, at: usize, function: &str, args: Vec<Expr>) -> Expr {
        self.node(at, Kind::Call { function: function.to_owned(), target: None, args })
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        // What is read from left to right goes down on the left, however often parentheses close.
        if self.depth > DEPTH || self.tallest > HEIGHT {
            let message = format!("expression recursion limit exceeded: {DEPTH}");
            return Err(Issue { at: self.at(), message });
        }
        if self.ids > NODES {
            return Err(Issue { at: self.at(), message: format!("expression has more than {NODES} nodes") });
        }
        Ok(())
    }

    fn expression(&mut self) -> Parsed {
        self.deeper()?;
        let condition = self.either("||")?;
        let out = match self.eat("?") {
            None => condition,
            Some(at) => {
                let yes = self.either("||")?;
                self.expect(":")?;
                let no = self.expression()?;
                self.call(at, "_?_:_", vec![condition, yes, no])
            }
        };
        self.depth -= 1;
        Ok(out)
    }

    /// `||`, and below it `&&`; many in a row become a balanced tree, so that depth stays small.
    fn either(&mut self, symbol: &str) -> Parsed {
        let mut terms = vec![self.term(symbol)?];
        let mut places = Vec::new();
        while let Some(at) = self.eat(symbol) {
            places.push(at);
            terms.push(self.term(symbol)?);
        }
        let function = if symbol == "||" { "_||_" } else { "_&&_" };
        Ok(self.balance(function, &mut terms.into_iter(), &places))
    }

    fn term(&mut self, symbol: &str) -> Parsed {
        if symbol == "||" { self.either("&&") } else { self.relation() }
    }

    fn balance(&mut self, function: &str, terms: &mut std::vec::IntoIter<Expr>, places: &[usize]) -> Expr {
        if places.is_empty() {
            return terms.next().expect("there is one term more than operators");
        }
        let middle = places.len() / 2;
        let left = self.balance(function, terms, &places[..middle]);
        let right = self.balance(function, terms, &places[middle + 1..]);
        self.call(places[middle], function, vec![left, right])
    }

    fn relation(&mut self) -> Parsed {
        const OPERATORS: [(&str, &str); 7] = [
            ("==", "_==_"),
            ("!=", "_!=_"),
            ("<=", "_<=_"),
            (">=", "_>=_"),
            ("<", "_<_"),
            (">", "_>_"),
            ("in", "@in"),
        ];
        self.chain(&OPERATORS, Parser::sum)
    }

    fn sum(&mut self) -> Parsed {
        self.chain(&[("+", "_+_"), ("-", "_-_")], Parser::product)
    }

    fn product(&mut self) -> Parsed {
        self.chain(&[("*", "_*_"), ("/", "_/_"), ("%", "_%_")], Parser::unary)
    }

    fn chain(&mut self, operators: &[(&str, &str)], operand: fn(&mut Parser) -> Parsed) -> Parsed {
        let mut left = operand(self)?;
        let depth = self.depth;
        while let Some((symbol, function)) = operators.iter().find(|(symbol, _)| self.is(symbol)) {
            let at = self.expect(symbol)?;
            self.deeper()?;
            let right = operand(self)?;
            left = self.call(at, function, vec![left, right]);
        }
        self.depth = depth;
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            let Some(at) = self.eat(symbol) else { continue };
            if symbol == "-"
                && let Some(number) = self.negative(at)
            {
                return self.member(number);
            }
            let mut odd = true;
            while self.eat(symbol).is_some() {
                odd = !odd;
            }
            let operand = self.primary()?;
            let operand = self.member(operand)?;
            return Ok(if odd { self.call(at, function, vec![operand]) } else { operand });
        }
        let operand = self.primary()?;
        self.member(operand)
    }

    /// A number after a minus.
    fn negative(&mut self, at: usize) -> Option<Expr> {
        let literal = match self.token() {
            Token::Literal(Literal::Int(number)) => Literal::Int(-number),
            Token::Literal(Literal::Double(number)) => Literal::Double(-number),
            Token::BadNumber("min") => Literal::Int(i64::MIN),
            _ => return None,
        };
        self.next += 1;
        Some(self.node(at, Kind::Literal(literal)))
    }

    fn primary(&mut self) -> Parsed {
        let lexeme = self.advance();
        let at = lexeme.at;
        match lexeme.token {
            Token::Literal(literal) => Ok(self.node(at, Kind::Literal(literal))),
            Token::BadNumber(kind) => {
                let kind = if kind == "min" { "int" } else { kind };
                Err(Issue { at, message: format!("invalid {kind} literal") })
            }
            Token::Symbol("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => self.list(at),
            Token::Symbol("{") => self.map(at),
            Token::Symbol(".") if matches!(self.token(), Token::Ident(_)) => self.primary(),
            Token::Ident(name) => {
                if let Some(open) = self.eat("(") {
                    let args = self.arguments()?;
                    return macros::global(self, open, name, args);
                }
                if RESERVED.contains(&name.as_str()) {
                    return Err(Issue { at, message: format!("reserved identifier: {name}") });
                }
                Ok(self.node(at, Kind::Ident(name)))
            }
            _ => {
                self.next -= usize::from(lexeme.token != Token::End);
                Err(self.no_start())
            }
        }
    }

    /// What cannot begin an expression.
    fn no_start(&self) -> Issue {
        if self.arguments != Some(self.next) || self.token() == &Token::End {
            return self.unexpected(STARTS);
        }
        // There could be no argument at all.
        let starts = STARTS.replace("'(', '.'", "'(', ')', '.'");
        let closes =
            matches!(self.lexemes.get(self.next + 1).map(|next| &next.token), Some(Token::Symbol(")")));
        let begins = matches!(
            self.lexemes.get(self.next + 1).map(|next| &next.token),
            Some(Token::Ident(_) | Token::Literal(_))
        );
        let mut issue = self.unexpected(&starts);
        if closes || begins {
            issue.message = issue.message.replacen("mismatched", "extraneous", 1);
        }
        issue
    }

    fn member(&mut self, mut operand: Expr) -> Parsed {
        let depth = self.depth;
        loop {
            self.deeper()?;
            if let Some(at) = self.eat(".") {
                let optional = self.eat("?").is_some();
                let Token::Ident(name) = self.token().clone() else {
                    let text = if self.token() == &Token::End { "" } else { &self.lexeme().text };
                    if text.is_empty() {
                        return Err(self.unexpected("IDENTIFIER"));
                    }
                    let message = format!("Syntax error: no viable alternative at input '.{text}'");
                    return Err(Issue { at: self.at(), message });
                };
                self.next += 1;
                if optional {
                    let field = self.node(at, Kind::Literal(Literal::String(name.into())));
                    operand = self.call(at, "_?._", vec![operand, field]);
                } else if let Some(open) = self.eat("(") {
                    let args = self.arguments()?;
                    operand = macros::member(self, open, operand, name, args)?;
                } else {
                    operand =
                        self.node(at, Kind::Select { operand: Box::new(operand), field: name, test: false });
                }
            } else if let Some(at) = self.eat("[") {
                let function = if self.eat("?").is_some() { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.expect("]")?;
                operand = self.call(at, function, vec![operand, index]);
            } else {
                self.depth = depth;
                return Ok(operand);
            }
        }
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        let mut args = Vec::new();
        self.arguments = Some(self.next);
        if self.eat(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if self.eat(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut items = Vec::new();
        while self.eat("]").is_none() {
            let optional = self.eat("?").is_some();
            items.push((self.expression()?, optional));
            if self.eat(",").is_none() {
                self.expect("]")?;
                break;
            }
        }
        Ok(self.node(at, Kind::List(items)))
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while self.eat("}").is_none() {
            let optional = self.eat("?").is_some();
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if self.eat(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.node(at, Kind::Map(entries)))
    }
}

/// With what an expression can begin, as the parser of cel-go lists it.
const STARTS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                      BYTES, IDENTIFIER}";

/// Words that cannot name a variable.
pub(crate) const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];
