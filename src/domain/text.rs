//! Makes texts safe to display.

/// Whether a character moves the cursor, ends a line, or reverses or hides text: controls, and Unicode's bidirectional,
/// zero-width, annotation and tag characters.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first `most` characters of a text, without unsafe ones.
pub fn shown(text: &str, most: usize) -> String {
    text.chars().filter(|c| !is_unsafe(*c)).take(most).collect()
}

/// The first `most` items, comma-separated, and the number of further ones.
pub fn first_of<S: AsRef<str>>(all: &[S], most: usize) -> String {
    let named = all.iter().take(most).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(most) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
