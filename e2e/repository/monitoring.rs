//! Metrics against their documentation, dashboards and alerts: all are documented, dashboards and alerts use only
//! metrics and labels that a manager exports, and each alert has a runbook.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spaceport::manager::metrics::{Metric, catalogue};
use spaceport::node::metrics::catalogue as node_catalogue;

use super::documentation::anchor;
use super::promql::{Named, Selector, read};
use super::sources::root;
use super::{matches_file, none};

const ALERTS: &str = "deploy/monitoring/alerts.yaml";
const DASHBOARDS: [&str; 2] =
    ["deploy/monitoring/dashboards/fleet.json", "deploy/monitoring/dashboards/cluster.json"];
const DOCS: &str = "docs/metrics.md";
/// How metrics of the node agent begin.
const NODE_AGENTS: [&str; 3] = ["spaceport_node_", "gitpod_ws_daemon_", "concurrent_backup_"];
const RUNBOOK: &str = "docs/operations/alerts.md";
/// Labels that Prometheus adds.
const OF_TARGETS: [&str; 2] = ["job", "instance"];
/// Line before the generated tables of the documentation; the part above it is written by hand.
const GENERATED: &str = "<!-- From here on generated: UPDATE_EXPECT=1 cargo test --test repository -->\n";

/// Values of labels that the help of a metric does not list, because many metrics share them.
const KNOWN_VALUES: [(&str, &[&str]); 5] = [
    (
        "grpc_code",
        &["OK", "Unavailable", "DeadlineExceeded", "Internal", "Unknown", "ResourceExhausted", "DataLoss"],
    ),
    ("type", &["Regular", "Prebuild", "ImageBuild"]),
    ("grpc_type", &["unary", "server_stream", "client_stream", "bidi_stream"]),
    ("grpc_service", &["wsman.WorkspaceManager"]),
    ("grpc_method", &["StartWorkspace"]),
];

#[test]
fn every_metric_is_documented_as_it_is() -> Result<()> {
    let file = root().join(DOCS);
    let committed = fs::read_to_string(&file).with_context(|| format!("read {DOCS}"))?;
    let by_hand = committed.split(GENERATED).next().unwrap_or_default();
    let mut text = format!("{by_hand}{GENERATED}");
    let metrics = [catalogue()?, node_catalogue()?].concat();
    for (title, prefixes) in [
        ("Managers and clusters", &["spaceport_"][..]),
        ("Node agents", &NODE_AGENTS),
        ("Workspaces", &["gitpod_ws_manager_", "wsman_"]),
        ("Calls", &["grpc_"]),
    ] {
        write!(text, "\n## {title}\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")?;
        let begins =
            |metric: &Metric, with: &[&str]| with.iter().any(|prefix| metric.name.starts_with(prefix));
        let is_here = |metric: &&Metric| {
            begins(metric, prefixes) && (prefixes == NODE_AGENTS || !begins(metric, &NODE_AGENTS))
        };
        for Metric { name, kind, labels, help } in metrics.iter().filter(is_here) {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "))?;
        }
    }
    for metric in &metrics {
        ensure!(text.contains(&format!("| `{}` |", metric.name)), "{} is in no table", metric.name);
        for label in &metric.labels {
            ensure!(by_hand.contains(&format!("| `{label}` |")), "label {label} is not described");
        }
    }
    matches_file(DOCS, &text)
}

#[test]
fn dashboards_and_alerts_use_only_exported_metrics() -> Result<()> {
    let metrics = catalogue()?;
    let known: BTreeMap<&str, &Metric> =
        metrics.iter().map(|metric| (metric.name.as_str(), metric)).collect();
    let mut wrong = Vec::new();
    let mut check = |of: &str, expression: &str| match read(expression) {
        Ok(named) => wrong.extend(unknown(&known, &named).into_iter().map(|what| format!("{of}: {what}"))),
        Err(error) => wrong.push(format!("{of}: {error}: {expression}")),
    };
    for rule in rules()? {
        check(
            rule["alert"].as_str().unwrap_or(ALERTS),
            rule["expr"].as_str().context("a rule without expr")?,
        );
    }
    for file in DASHBOARDS {
        let dashboard = dashboard(file)?;
        let mut expressions = 0;
        for panel in dashboard["panels"].as_array().context("no panels")? {
            let title = panel["title"].as_str().context("a panel without title")?;
            for target in panel["targets"].as_array().into_iter().flatten() {
                expressions += 1;
                check(&format!("{file}: {title}"), target["expr"].as_str().context("a target without expr")?);
            }
        }
        ensure!(expressions > 20, "{file} has {expressions} expressions only");
        for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
            if let Some(query) = variable["definition"].as_str() {
                let (metric, label) = query
                    .strip_prefix("label_values(")
                    .and_then(|query| query.strip_suffix(')')?.rsplit_once(", "))
                    .with_context(|| format!("{query} is no query of a variable"))?;
                check(file, &format!("max by ({label}) ({metric})"));
            }
        }
    }
    none(&wrong, "what no manager exports")
}

/// Overlapping panels and dead links are otherwise only seen in a browser.
#[test]
fn dashboards_have_no_overlaps_and_dead_links() -> Result<()> {
    for file in DASHBOARDS {
        let dashboard = dashboard(file)?;
        let mut taken: BTreeSet<(u64, u64)> = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().context("no panels")? {
            let title = &panel["title"];
            ensure!(ids.insert(panel["id"].as_u64()), "{file}: {title} has the id of another panel");
            let at =
                |key: &str| panel["gridPos"][key].as_u64().with_context(|| format!("{title} has no {key}"));
            let (x, y, width, height) = (at("x")?, at("y")?, at("w")?, at("h")?);
            ensure!(x + width <= 24, "{file}: {title} is too wide");
            for column in x..x + width {
                for row in y..y + height {
                    ensure!(taken.insert((column, row)), "{file}: {title} lies on another panel");
                }
            }
        }
        for link in dashboard["links"].as_array().context("no links")? {
            let url = link["url"].as_str().context("a link without url")?;
            let uid = url.trim_start_matches("/d/").split('?').next().unwrap_or_default();
            let there = DASHBOARDS.iter().any(|other| dashboard_uid(other).is_ok_and(|other| other == uid));
            ensure!(there, "{file} links to {url}, which is not there");
        }
    }
    Ok(())
}

#[test]
fn every_alert_has_a_severity_a_text_and_a_runbook() -> Result<()> {
    let page = fs::read_to_string(root().join(RUNBOOK))?;
    let runbooks: BTreeMap<&str, &str> = page
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .collect();
    let mut names = BTreeSet::new();
    for rule in rules()? {
        let name = rule["alert"].as_str().context("a rule without alert")?;
        ensure!(names.insert(name.to_owned()), "{name} is there twice");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        ensure!(["critical", "warning", "info"].contains(&severity), "{name} has severity {severity:?}");
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            ensure!(!text.is_empty(), "{name} has no {annotation}");
        }
        let url = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
        let expected = format!("https://spaceport.example.com/{RUNBOOK}#{}", anchor(name));
        ensure!(url == expected, "{name} links to {url:?}, not to {expected}");
        let runbook = runbooks.get(name).with_context(|| format!("{RUNBOOK} has no section {name}"))?;
        let mut parts = Vec::new();
        for part in ["Meaning", "Impact", "Diagnose", "Fix"] {
            let marker = format!("\n**{part}.** ");
            parts.push(runbook.find(&marker).with_context(|| format!("{RUNBOOK}: {name} lacks {part}"))?);
        }
        ensure!(parts.is_sorted(), "{RUNBOOK}: the parts of {name} are not in order");
        if let Some(wait) = rule.get("for") {
            let wait = wait.as_str().unwrap_or_default();
            let minutes = wait.strip_suffix('m').and_then(|number| number.parse::<u32>().ok());
            ensure!(minutes.is_some(), "{name} waits {wait:?}");
        }
    }
    let without: Vec<String> =
        runbooks.keys().filter(|name| !names.contains(**name)).map(|name| (*name).to_owned()).collect();
    none(&without, "runbooks without an alert")
}

fn rules() -> Result<Vec<Value>> {
    let manifest: Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join(ALERTS))?).context(ALERTS)?;
    ensure!(manifest["kind"] == "PrometheusRule", "{ALERTS} is a {}", manifest["kind"]);
    let mut rules = Vec::new();
    for group in manifest["spec"]["groups"].as_array().context("no groups")? {
        ensure!(group["name"].is_string(), "a group without name");
        rules.extend(group["rules"].as_array().context("a group without rules")?.iter().cloned());
    }
    Ok(rules)
}

fn dashboard(file: &str) -> Result<Value> {
    let text = fs::read_to_string(root().join(file)).with_context(|| format!("read {file}"))?;
    serde_json::from_str(&text).with_context(|| format!("{file} is no JSON"))
}

fn dashboard_uid(file: &str) -> Result<String> {
    Ok(dashboard(file)?["uid"].as_str().context("no uid")?.to_owned())
}

/// Names in an expression that no manager exports.
fn unknown(known: &BTreeMap<&str, &Metric>, named: &Named) -> Vec<String> {
    let (mut wrong, mut labels) = (Vec::new(), BTreeSet::from(OF_TARGETS));
    for selector in &named.selectors {
        let Some((metric, has_le)) = find(known, &selector.metric) else {
            wrong.push(format!("no metric {}", selector.metric));
            continue;
        };
        labels.extend(metric.labels.iter().map(String::as_str));
        labels.extend(has_le.then_some("le"));
        for (label, text) in &selector.labels {
            if !metric.labels.contains(label) && !OF_TARGETS.contains(&label.as_str()) {
                wrong.push(format!("{} has no label {label}", metric.name));
                continue;
            }
            let values = text.split('|').filter(|value| !value.is_empty() && !value.contains(['$', '*']));
            let is_known = |value: &&str| is_value(metric, label, value);
            wrong.extend(values.filter(|v| !is_known(v)).map(|v| unknown_value(selector, label, v)));
        }
    }
    let grouped = named.grouped.iter().filter(|label| !labels.contains(label.as_str()));
    wrong.extend(grouped.map(|label| format!("nothing here has label {label}")));
    wrong
}

fn unknown_value(selector: &Selector, label: &str, value: &str) -> String {
    format!("{}: no known value {value} of label {label}", selector.metric)
}

fn find<'a>(known: &BTreeMap<&str, &'a Metric>, name: &str) -> Option<(&'a Metric, bool)> {
    if let Some(metric) = known.get(name).filter(|metric| metric.kind != "histogram") {
        return Some((metric, false));
    }
    let suffixes = ["_bucket", "_sum", "_count"];
    let part =
        |suffix: &&str| known.get(name.strip_suffix(*suffix)?).map(|metric| (*metric, *suffix == "_bucket"));
    suffixes.iter().find_map(part).filter(|(metric, _)| metric.kind == "histogram")
}

/// A value is known if the metric's help lists it.
fn is_value(metric: &Metric, label: &str, value: &str) -> bool {
    let values = KNOWN_VALUES.iter().find(|(known, _)| *known == label).map(|(_, values)| *values);
    values.is_some_and(|values| values.contains(&value)) || metric.help.contains(&format!("`{value}`"))
}

#[test]
fn unknown_metrics_labels_and_values_are_found() {
    let metric = |name: &str, kind, labels: &[&str], help: &str| Metric {
        name: name.to_owned(),
        kind,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        help: help.to_owned(),
    };
    let all =
        [metric("a", "gauge", &["cluster"], ""), metric("h", "histogram", &["kind"], "`read`, `write`")];
    let known: BTreeMap<&str, &Metric> = all.iter().map(|metric| (metric.name.as_str(), metric)).collect();
    let wrong = |expression| unknown(&known, &read(expression).unwrap()).len();
    for good in [
        "sum by (job, cluster) (a)",
        r#"max by (kind, le) (h_bucket{kind=~"read|write", job=~"$job"})"#,
        "a unless on (cluster) a",
        r#"h_count{kind=~"$kind"}"#,
    ] {
        assert_eq!(wrong(good), 0, "{good}");
    }
    for bad in [
        "b",
        "h",
        "a_bucket",
        r#"a{kind="read"}"#,
        "max by (kind) (a)",
        r#"h_sum{kind="erase"}"#,
        "max by (le) (h_sum)",
    ] {
        assert_eq!(wrong(bad), 1, "{bad}");
    }
}
