//! Fuzz targets on the stable toolchain: a parser gets every input of its corpus, and mutations of them.
//!
//! `target("name", &seeds, |input| …)` replays `e2e/corpus/name/*`, then runs mutations of those files and of `seeds`
//! for `FUZZ_SECONDS` per target (default 1). An input that makes the closure panic is shrunk and written to
//! `target/fuzz/name`; once the bug is fixed, add it to the corpus.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a target fails by a panic, as a test does"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use tokio::time::Instant;

/// Longest input in bytes; mutations that repeat a part stop there.
const LONGEST: usize = 64 << 10;
/// Inputs between two checks of the time.
const ROUND: u32 = 64;

/// Runs a target. `check` panics if the parser breaks a rule.
pub fn target(name: &str, seeds: &[&[u8]], check: impl Fn(&[u8])) {
    let corpus = corpus(name, seeds);
    assert!(!corpus.is_empty(), "no seed, and nothing in e2e/corpus/{name}");
    for input in &corpus {
        check(input);
    }
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runner = TestRunner::new(Config { cases: ROUND, failure_persistence: None, ..Config::default() });
    while Instant::now() < end {
        let ran = runner.run(&mutated(corpus.clone()), |input| {
            check(&input);
            Ok::<(), TestCaseError>(())
        });
        match ran {
            Ok(()) => {}
            Err(TestError::Fail(reason, input)) => panic!("{name}: {reason}; {}", kept(name, &input)),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// The same for a parser of text; inputs that are not UTF-8 are converted.
pub fn text_target(name: &str, seeds: &[&str], check: impl Fn(&str)) {
    let seeds: Vec<&[u8]> = seeds.iter().map(|seed| seed.as_bytes()).collect();
    target(name, &seeds, |input| check(&String::from_utf8_lossy(input)));
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name)
}

fn corpus(name: &str, seeds: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let mut files: Vec<PathBuf> = match fs::read_dir(folder(name)) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    corpus.extend(files.iter().map(|file| fs::read(file).unwrap()));
    corpus
}

/// Writes the failing input to a file.
fn kept(name: &str, input: &[u8]) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz").join(name);
    let written = fs::create_dir_all(file.parent().unwrap()).and_then(|()| fs::write(&file, input));
    match written {
        Ok(()) => format!("the input is in {}", file.display()),
        Err(_) => format!("the input is {input:?}"),
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Splice(Index, Index),
}

fn mutated(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edit = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8))
            .prop_map(|(at, new)| Edit::Insert(at, new)),
        (any::<Index>(), prop::sample::select(TOKENS))
            .prop_map(|(at, token)| Edit::Insert(at, token.as_bytes().to_vec())),
        (any::<Index>(), 1..32usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), 1..32usize, 2..1000usize).prop_map(|(at, length, n)| Edit::Repeat(at, length, n)),
        (any::<Index>(), any::<Index>()).prop_map(|(at, other)| Edit::Splice(at, other)),
    ];
    (any::<Index>(), prop::collection::vec(edit, 0..6)).prop_map(move |(chosen, edits)| {
        let input = corpus[chosen.index(corpus.len())].clone();
        edits.iter().fold(input, |input, edit| apply(input, edit, &corpus))
    })
}

/// Tokens that often break parsers.
const TOKENS: &[&str] = &[
    "\0",
    "\n",
    "\r\n",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "%00",
    "../",
    "//",
    ":",
    "-",
    "99999999999999999999",
    "-1",
    "1e999",
    "é",
    "\u{202e}",
    "\u{feff}",
    "&a [*a,*a]",
    "*a",
    "<<: *a",
    "!!binary",
    "$(A)",
    "$$",
    "~",
    "null",
    "=",
    ",",
    "@",
    "\\u0000",
];

fn apply(mut input: Vec<u8>, edit: &Edit, corpus: &[Vec<u8>]) -> Vec<u8> {
    let place = |at: &Index, input: &Vec<u8>| at.index(input.len() + 1);
    match edit {
        Edit::Set(at, byte) if !input.is_empty() => *at.get_mut(&mut input) = *byte,
        Edit::Flip(at, bit) if !input.is_empty() => *at.get_mut(&mut input) ^= 1 << bit,
        Edit::Set(..) | Edit::Flip(..) => {}
        Edit::Insert(at, new) => {
            let at = place(at, &input);
            input.splice(at..at, new.iter().copied());
        }
        Edit::Remove(at, length) => {
            let at = place(at, &input);
            let end = (at + length).min(input.len());
            input.drain(at..end);
        }
        Edit::Repeat(at, length, times) => {
            let at = place(at, &input);
            let end = (at + length).min(input.len());
            let piece = input[at..end].repeat(*times);
            input.splice(at..at, piece);
        }
        Edit::Splice(at, other) => {
            let at = place(at, &input);
            let other = &corpus[other.index(corpus.len())];
            input.truncate(at);
            input.extend_from_slice(&other[at.min(other.len())..]);
        }
    }
    input.truncate(LONGEST);
    input
}
