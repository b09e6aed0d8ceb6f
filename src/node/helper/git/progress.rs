//! How far a fetch is, by what git prints. The lines of the server are not read: they may say anything.

use super::super::ground::Paced;

/// Longest line that is looked at.
const LINE_MAX: usize = 256;
/// How lines about progress begin.
const NOISE: [&str; 9] = [
    "Receiving objects:",
    "Resolving deltas:",
    "Unpacking objects:",
    "Updating files:",
    "remote: Enumerating objects:",
    "remote: Counting objects:",
    "remote: Compressing objects:",
    "remote: Total ",
    "remote: Finding sources:",
];

/// Whether a line is about progress and says nothing of a failure.
pub(super) fn is_noise(line: &str) -> bool {
    NOISE.iter().any(|beginning| line.starts_with(beginning))
}

/// Reads the output of git, and reports the progress in it.
#[derive(Default)]
pub(super) struct Watcher {
    line: Vec<u8>,
    paced: Paced,
}

impl Watcher {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !matches!(byte, b'\r' | b'\n') {
                if self.line.len() < LINE_MAX {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Some((step, bytes)) = std::str::from_utf8(&line).ok().and_then(parse) {
                self.paced.report(&step, bytes);
            }
        }
    }
}

/// Step and bytes of `Receiving objects:  45% (450/1000), 1.20 MiB | 1.00 MiB/s`.
fn parse(line: &str) -> Option<(String, u64)> {
    let rest = line.strip_prefix("Receiving objects:")?.trim_start();
    let (percent, rest) = rest.split_once('%')?;
    let (counts, rest) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    let (_, total) = counts.split_once('/')?;
    let (percent, total) = (percent.parse::<u8>().ok()?, total.parse::<u64>().ok()?);
    let size = rest.trim_start_matches([',', ' ']).split('|').next().and_then(size);
    Some((format!("fetching {percent} % of {total} objects"), size.unwrap_or_default()))
}

/// Bytes of `1.20 MiB`.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let unit: u64 = match unit {
        "bytes" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let hundredths = part.get(..part.len().min(2))?.parse::<u64>().ok()?;
    whole.checked_add(hundredths.checked_mul(unit)? / 10_u64.pow(u32::try_from(part.len().min(2)).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_of_a_fetch_has_objects_and_bytes() {
        let step = |text: &str| text.to_owned();
        for (line, expected) in [
            (
                "Receiving objects:  45% (450/1000), 1.50 MiB | 1.00 MiB/s",
                Some((step("fetching 45 % of 1000 objects"), 3 << 19)),
            ),
            ("Receiving objects:   0% (1/7)", Some((step("fetching 0 % of 7 objects"), 0))),
            (
                "Receiving objects: 100% (7/7), 512 bytes | 512.00 KiB/s, done.",
                Some((step("fetching 100 % of 7 objects"), 512)),
            ),
            (
                "Receiving objects: 100% (7/7), 2.5 GiB | 1 KiB/s",
                Some((step("fetching 100 % of 7 objects"), 5 << 29)),
            ),
            ("remote: Receiving objects: 45% (450/1000)", None),
            ("Receiving objects: x% (450/1000)", None),
            ("Receiving objects: 45% (450", None),
            ("Receiving objects: 45% (1/99999999999999999999999)", None),
            ("", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
        for odd in ["1 TiB", "x MiB", "1.x MiB", "99999999999999999999 GiB", "18446744073709551615 GiB", "1"]
        {
            assert_eq!(size(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory() {
        let mut watcher = Watcher::default();
        watcher.take(&vec![b'x'; 100_000]);
        assert_eq!(watcher.line.len(), LINE_MAX);
    }
}
