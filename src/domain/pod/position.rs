//! Position in a log that is followed, so that another replica can continue. Pure.
//!
//! Kubelets write a timestamp before each line. The timestamp alone is not a position: several lines may have the same.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// Bytes of a timestamp; a longer text is none.
const LONGEST_TIME: usize = 40;

/// A position in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Timestamp of the last line that was read, at least partly.
    pub at: Timestamp,
    /// Number of lines with this timestamp that were read completely.
    lines: u64,
    /// Bytes that were read of the next line.
    bytes: u64,
}

/// A text that is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a token of a chunk of the log")]
pub struct BadPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.at, self.lines, self.bytes)
    }
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(BadPosition);
        let at = part()?.parse().map_err(|_| BadPosition)?;
        let lines = part()?.parse().map_err(|_| BadPosition)?;
        let bytes = part()?.parse().map_err(|_| BadPosition)?;
        part().map_or(Ok(Self { at, lines, bytes }), |_| Err(BadPosition))
    }
}

/// What to skip of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeftOut {
    Nothing,
    First(u64),
    All,
}

#[derive(Debug)]
enum Line {
    /// Its timestamp is being read.
    Time(Vec<u8>),
    /// Its text.
    Text(LeftOut),
}

/// Strips the timestamps from the lines of a log, and skips what was read before.
#[derive(Debug)]
pub struct Untimed {
    after: Option<Position>,
    read: Option<Position>,
    line: Line,
}

impl Untimed {
    /// For a log that is read from the beginning, or that is continued `after` a position.
    pub fn new(after: Option<Position>) -> Self {
        Self { after, read: None, line: Line::Time(Vec::new()) }
    }

    /// Current position; `None` before the first timestamp.
    pub fn position(&self) -> Option<Position> {
        self.read
    }

    /// The text of a chunk that was not read before.
    pub fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(piece.len());
        let mut rest = piece;
        while !rest.is_empty() {
            rest = match &mut self.line {
                Line::Time(time) => {
                    let most = LONGEST_TIME.saturating_sub(time.len()).min(rest.len());
                    let end = rest[..most].iter().position(|byte| matches!(byte, b' ' | b'\n'));
                    let (more, rest) = rest.split_at(end.unwrap_or(most));
                    time.extend_from_slice(more);
                    if end.is_some() || time.len() >= LONGEST_TIME {
                        let time = std::mem::take(time);
                        self.begin(&time, rest, &mut text)
                    } else {
                        rest
                    }
                }
                Line::Text(left_out) => {
                    let left_out = *left_out;
                    self.text(left_out, rest, &mut text)
                }
            };
        }
        text
    }

    /// Begins a line; returns the rest after its timestamp.
    fn begin<'a>(&mut self, time: &[u8], rest: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
        let at = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok());
        let (Some(at), Some((b' ', rest))) = (at, rest.split_first()) else {
            // A line without a timestamp is passed on unchanged, and does not count.
            text.extend_from_slice(time);
            self.line = Line::Text(LeftOut::Nothing);
            return rest;
        };
        let read = match self.read {
            Some(read) if read.at == at => Position { bytes: 0, ..read },
            _ => Position { at, lines: 0, bytes: 0 },
        };
        self.read = Some(read);
        self.line = Line::Text(match self.after {
            Some(after) if at < after.at => LeftOut::All,
            Some(after) if at == after.at && read.lines < after.lines => LeftOut::All,
            Some(after) if at == after.at && read.lines == after.lines => LeftOut::First(after.bytes),
            _ => LeftOut::Nothing,
        });
        rest
    }

    /// Takes the available part of the line; returns what follows it.
    fn text<'a>(&mut self, left_out: LeftOut, rest: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        let length = line.len() as u64 - u64::from(end.is_some());
        let told = match left_out {
            LeftOut::Nothing => line,
            LeftOut::All => &[],
            LeftOut::First(bytes) => &line[usize::try_from(bytes.min(length)).unwrap_or(line.len())..],
        };
        text.extend_from_slice(told);
        if let Some(read) = &mut self.read {
            read.bytes += length;
            if end.is_some() {
                (read.lines, read.bytes) = (read.lines + 1, 0);
            }
        }
        self.line = match (end, left_out) {
            (Some(_), _) => Line::Time(Vec::new()),
            (None, LeftOut::First(bytes)) => Line::Text(LeftOut::First(bytes.saturating_sub(length))),
            (None, left_out) => Line::Text(left_out),
        };
        after
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// A log with timestamps, and its text.
    fn log(lines: &[(u8, String)]) -> (Vec<u8>, String) {
        let (mut told, mut text, mut second) = (String::new(), String::new(), 0);
        for (later, line) in lines {
            second += i64::from(*later);
            let at =
                Timestamp::constant(1_800_000_000, 5).saturating_add(jiff::SignedDuration::from_secs(second));
            writeln!(told, "{:.9} {line}", at.unwrap()).unwrap();
            writeln!(text, "{line}").unwrap();
        }
        (told.into_bytes(), text)
    }

    #[test]
    fn lines_without_a_timestamp_are_passed_on() {
        for text in ["unable to read it\n", "\n", "2026-11-24T00:00:00Z", &"x".repeat(100), "a\nb"] {
            let mut untimed = Untimed::new(None);
            let told = untimed.take(text.as_bytes());
            // A beginning that may become a timestamp is held back.
            assert!(text.as_bytes().starts_with(&told), "{text:?} became {told:?}");
            assert_eq!(untimed.position(), None);
        }
        assert_eq!(Untimed::new(None).take(b"unable to read it\n"), b"unable to read it\n");
    }

    #[test]
    fn a_position_is_parsed_from_its_own_text_only() {
        let mut untimed = Untimed::new(None);
        untimed.take(b"2026-11-24T00:00:00.000000001Z one\n2026-11-24T00:00:00.000000001Z tw");
        let position = untimed.position().unwrap();
        assert_eq!(position.to_string(), "2026-11-24T00:00:00.000000001Z/1/2");
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "x", "2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z/1", "2026-11-24T00:00:00Z/1/2/3"] {
            assert_eq!(bad.parse::<Position>(), Err(BadPosition), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn wherever_a_log_breaks_off_and_however_it_comes_nothing_is_repeated_or_lost(
            lines in prop::collection::vec((0u8..2, "[a-z ]{0,6}"), 0..8),
            breaks in any::<prop::sample::Index>(), piece in 1usize..60, from_second in any::<bool>(),
        ) {
            let (told, text) = log(&lines);
            let broken_at = breaks.index(told.len() + 1);
            let mut first = Untimed::new(None);
            let mut read: Vec<u8> = told[..broken_at].chunks(piece).flat_map(|piece| first.take(piece)).collect();
            let after = first.position();
            // Kubelets repeat lines from the second of the last one, or the whole log.
            let begin = match after {
                Some(after) if from_second => {
                    let of = |line: &&[u8]| {
                        let time = line.split(|byte| *byte == b' ').next().unwrap();
                        std::str::from_utf8(time).unwrap().parse::<Timestamp>().unwrap() < after.at
                    };
                    told.split_inclusive(|byte| *byte == b'\n').take_while(of).map(<[u8]>::len).sum()
                }
                _ => 0,
            };
            let mut second = Untimed::new(after);
            read.extend(told[begin..].chunks(piece).flat_map(|piece| second.take(piece)));
            prop_assert_eq!(String::from_utf8(read).unwrap(), text);
        }
    }
}
