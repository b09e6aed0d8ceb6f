//! Extracts metrics, labels and values from a PromQL expression. It knows as much of the language as the rules and
//! dashboards need; anything else is an error.
//!
//! Not the crate `promql-parser`: that adds 28 more crates, among them `bincode`, which is unmaintained (RUSTSEC-2025-0141) and
//! so rejected by `deny.toml`.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

const FUNCTIONS: [&str; 9] =
    ["abs", "absent", "changes", "histogram_quantile", "increase", "label_values", "rate", "time", "vector"];
const AGGREGATIONS: [&str; 5] = ["sum", "min", "max", "count", "topk"];
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 4] = ["and", "or", "unless", "bool"];

/// A metric and the comparisons of its labels.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    /// Label and value of each comparison.
    pub labels: Vec<(String, String)>,
}

/// Names in an expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its selectors, in order.
    pub selectors: Vec<Selector>,
    /// Labels for grouping or matching.
    pub grouped: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Number,
    Range,
    Sign(char),
}

/// Parses an expression.
pub fn read(expression: &str) -> Result<Named> {
    let tokens = tokens(expression)?;
    let mut named = Named::default();
    let (mut at, mut open) = (0, 0_usize);
    while let Some(token) = tokens.get(at) {
        let opens = tokens.get(at + 1) == Some(&Token::Sign('('));
        at += 1;
        match token {
            Token::Sign('(') => open += 1,
            Token::Sign(')') => {
                ensure!(open > 0, "a parenthesis is closed that none opened");
                open -= 1;
            }
            Token::Sign('{') => bail!("labels without a metric"),
            Token::Word(word) if LISTS.contains(&word.as_str()) && opens => {
                at = list(&tokens, at + 1, &mut named.grouped)?;
            }
            Token::Word(word) if WORDS.contains(&word.as_str()) && !opens => {}
            Token::Word(word) if FUNCTIONS.contains(&word.as_str()) && opens => {}
            Token::Word(word) if AGGREGATIONS.contains(&word.as_str()) => {}
            Token::Word(word) if opens && !WORDS.contains(&word.as_str()) => {
                bail!("no function {word} is known")
            }
            Token::Word(word) if WORDS.contains(&word.as_str()) => {}
            Token::Word(metric) => {
                let mut selector = Selector { metric: metric.clone(), labels: Vec::new() };
                if tokens.get(at) == Some(&Token::Sign('{')) {
                    at = comparisons(&tokens, at + 1, &mut selector.labels)?;
                }
                named.selectors.push(selector);
            }
            Token::Text(_) | Token::Number | Token::Range | Token::Sign(_) => {}
        }
    }
    ensure!(open == 0, "{open} parentheses are not closed");
    Ok(named)
}

/// Parses label names up to the closing parenthesis; returns the next position.
fn list(tokens: &[Token], mut at: usize, into: &mut BTreeSet<String>) -> Result<usize> {
    loop {
        match tokens.get(at) {
            Some(Token::Word(label)) => drop(into.insert(label.clone())),
            Some(Token::Sign(',')) => {}
            Some(Token::Sign(')')) => return Ok(at + 1),
            other => bail!("{other:?} in a list of labels"),
        }
        at += 1;
    }
}

/// Parses comparisons up to the closing brace; returns the next position.
fn comparisons(tokens: &[Token], mut at: usize, into: &mut Vec<(String, String)>) -> Result<usize> {
    loop {
        match tokens.get(at) {
            Some(Token::Sign('}')) => return Ok(at + 1),
            Some(Token::Sign(',')) => at += 1,
            Some(Token::Word(label)) => {
                let signs =
                    tokens[at + 1..].iter().take_while(|token| matches!(token, Token::Sign('=' | '!' | '~')));
                let value = at + 1 + signs.count();
                let Some(Token::Text(text)) = tokens.get(value) else {
                    bail!("label {label} is compared with no text")
                };
                ensure!(value > at + 1, "label {label} is not compared");
                into.push((label.clone(), text.clone()));
                at = value + 1;
            }
            other => bail!("{other:?} among labels"),
        }
    }
}

fn tokens(expression: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '"' => {
                let end = rest[1..].find('"').map(|end| end + 1);
                let Some(end) = end else { bail!("a text is not closed") };
                (Token::Text(rest[1..end].to_owned()), end + 1)
            }
            '[' => {
                let Some(end) = rest.find(']') else { bail!("a range is not closed") };
                (Token::Range, end + 1)
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (Token::Word(rest[..end].to_owned()), end)
            }
            '0'..='9' => {
                let is_number = |c: char| c.is_ascii_alphanumeric() || c == '.';
                (Token::Number, rest.find(|c| !is_number(c)).unwrap_or(rest.len()))
            }
            '(' | ')' | '{' | '}' | ',' | '=' | '!' | '~' | '<' | '>' | '+' | '-' | '*' | '/' => {
                (Token::Sign(first), 1)
            }
            other => bail!("{other:?} is not known"),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

#[test]
fn names_of_an_expression_are_extracted() {
    let named = read(
        r#"histogram_quantile(0.9, sum by (job, le) (rate(a_bucket{kind=~"write|renew", x!=""}[5m]))) > 0.5
           unless on (cluster) max by (cluster) (b{}) == 1 or absent(c)"#,
    )
    .unwrap();
    let metrics: Vec<&str> = named.selectors.iter().map(|selector| selector.metric.as_str()).collect();
    assert_eq!(metrics, ["a_bucket", "b", "c"]);
    let labels = [("kind".to_owned(), "write|renew".to_owned()), ("x".to_owned(), String::new())];
    assert_eq!(named.selectors[0].labels, labels);
    assert_eq!(named.grouped, ["cluster", "job", "le"].map(str::to_owned).into());
    for wrong in ["sum(a", "a)", "a{b}", "a{b=}", "{b=\"c\"}", "sun(a)", "a[5m", "a{b=\"c}", "a ? b"] {
        assert!(read(wrong).is_err(), "{wrong} is read");
    }
}
