//! The documentation names only what exists: conditions, log lines, pages and their sections.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use spaceport::manager::metrics::catalogue;

use super::none;
use super::sources::{root, sources};

const CONDITIONS: &str = "docs/operations/conditions.md";

/// Conditions come from the metric that exports them, reasons from the code that sets conditions.
#[test]
fn every_condition_and_reason_is_documented() -> Result<()> {
    let page = fs::read_to_string(root().join(CONDITIONS))?;
    let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let metrics = catalogue()?;
    let metric = metrics.iter().find(|metric| metric.name == "spaceport_cluster_condition");
    let help = &metric.context("no metric spaceport_cluster_condition")?.help;
    let conditions: Vec<&str> = help.split('`').skip(1).step_by(2).collect();
    ensure!(conditions.len() > 10, "only {conditions:?} are conditions");
    let mut missing: Vec<String> = conditions
        .iter()
        .filter(|name| !sections.contains(**name))
        .map(|name| format!("## {name}"))
        .collect();
    let mut categories: BTreeSet<String> = BTreeSet::new();
    for source in sources("src/federation")?.into_iter().filter(|source| !source.is_test()) {
        if !["Condition::fails(", "Failure {"].iter().any(|maker| source.text.contains(maker)) {
            continue;
        }
        let product = source.lines_before_tests();
        for (_, line) in source.code().filter(|(line, _)| *line <= product) {
            categories.extend(
                line.split('"').skip(1).step_by(2).filter(|text| is_category(text)).map(str::to_owned),
            );
        }
    }
    ensure!(categories.contains("WatchesFail") && categories.contains("KeyNotFound"), "found {categories:?}");
    missing.extend(categories.into_iter().filter(|name| !page.contains(&format!("`{name}`"))));
    none(&missing, &format!("conditions and reasons that {CONDITIONS} lacks"))
}

/// Such as `WatchesFail`.
fn is_category(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(char::is_alphanumeric)
}

/// An operator in an incident searches the log for them.
#[test]
fn log_lines_quoted_in_the_documentation_exist() -> Result<()> {
    const QUOTE: &str = "log line `";
    let sources = sources("src")?;
    let (mut quoted, mut unknown) = (0, Vec::new());
    for (path, text) in pages()? {
        let text =
            text.replace("Log line `", QUOTE).replace("log line\n`", QUOTE).replace("Log line\n`", QUOTE);
        for line in text.split(QUOTE).skip(1).filter_map(|rest| rest.split('`').next()) {
            quoted += 1;
            if !sources.iter().any(|source| source.text.contains(line)) {
                unknown.push(format!("{path}: {line}"));
            }
        }
    }
    ensure!(quoted > 5, "{quoted} log lines are quoted");
    none(&unknown, "log lines that no code writes")
}

/// Every link within the documentation leads to a file, and to a heading if it names one.
#[test]
fn links_of_the_documentation_lead_somewhere() -> Result<()> {
    let pages = pages()?;
    let headings: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|(path, text)| (path.as_str(), headings(text))).collect();
    let mut broken = Vec::new();
    for (path, text) in &pages {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.contains(char::is_whitespace)) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { beside(path, file) };
            let known = headings.get(target.as_str());
            let has_section = section.is_empty() || known.is_none_or(|known| known.contains(section));
            if !has_section || !root().join(&target).exists() {
                broken.push(format!("{path}: {link}"));
            }
        }
    }
    none(&broken, "links that lead nowhere")
}

/// The Markdown files for users and operators: path from the root, and text.
fn pages() -> Result<Vec<(String, String)>> {
    let mut paths: Vec<String> = [
        "README.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "deploy/README.md",
        "deploy/chart/README.md",
        "clusters/member/README.md",
    ]
    .map(str::to_owned)
    .into();
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).with_context(|| format!("list {folder}"))? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if entry.path().extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    let mut pages = Vec::new();
    for path in paths {
        let text = fs::read_to_string(root().join(&path)).with_context(|| format!("read {path}"))?;
        pages.push((path, text));
    }
    Ok(pages)
}

/// Resolves a path that a page names to a path from the root.
fn beside(page: &str, file: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Anchors of a page, without lines in code blocks.
fn headings(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    prose.filter_map(heading).map(anchor).collect()
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    (text.len() < line.len()).then(|| text.trim())
}

/// The anchor that GitHub generates.
pub fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase().replace(' ', "-");
    lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}
