//! Wraps text at spaces; a longer word gets its own line.

use unicode_width::UnicodeWidthStr;

use super::layout::{GAP, INDENT, Layout};

/// Wraps the words of a text at `width`.
pub(super) fn words(text: &str, width: usize) -> Vec<String> {
    broken(text, width, "", "")
}

/// Wraps a text at `width`, with one margin for the first line and another for the rest.
fn broken(text: &str, width: usize, first: &str, below: &str) -> Vec<String> {
    let mut words = text.split_whitespace();
    let mut line = first.to_owned() + words.next().unwrap_or_default();
    let mut lines = Vec::new();
    for word in words {
        if line.width() + 1 + word.width() > width {
            lines.push(std::mem::replace(&mut line, format!("{below}{word}")));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.push(line);
    lines
}

/// The same, with each line indented.
pub(super) fn indented(text: &str, width: usize) -> Vec<String> {
    let lines = words(text, width.saturating_sub(INDENT));
    lines.into_iter().map(|line| format!("{}{line}", " ".repeat(INDENT))).collect()
}

/// Wraps each line of a text at words; continuation lines are indented.
pub fn paragraphs(text: &str, width: usize) -> String {
    let wrapped = |line: &str| {
        let margin = line.len() - line.trim_start_matches(' ').len();
        let below = (margin + INDENT).min(width / 2);
        broken(line, width, &" ".repeat(margin), &" ".repeat(below)).join("\n")
    };
    text.split('\n')
        .map(|line| if line.width() > width { wrapped(line) } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Wraps a sentence; continuation lines are indented.
pub fn wrapped(sentence: &str, layout: Layout) -> String {
    flow(&sentence.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), 1, layout)
}

/// Texts beside each other, as many as fit a line; continuation lines are indented. Blank texts are left out.
pub fn columns(texts: &[String], layout: Layout) -> String {
    flow(texts, GAP, layout)
}

fn flow(texts: &[String], gap: usize, layout: Layout) -> String {
    let width = match layout {
        Layout::Fit(width) => width,
        Layout::Wide => usize::MAX,
    };
    let (mut lines, mut line) = (Vec::new(), String::new());
    for text in texts.iter().filter(|text| !text.trim().is_empty()) {
        let fits = |line: &str| line.width().saturating_add(gap + text.trim_end().width()) <= width;
        if line.is_empty() || fits(&line) {
            line.push_str(&" ".repeat(if line.is_empty() { 0 } else { gap }));
            line.push_str(text);
            continue;
        }
        lines.push(std::mem::take(&mut line));
        let mut rest = indented(text, width);
        line = rest.pop().unwrap_or_default();
        lines.extend(rest);
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}
