//! The checks of registration and `doctor`: named, one function each, all within one deadline.
//!
//! `reachable`, `ca` and `login` come first; if one of them fails, the others are skipped. The others run concurrently and
//! independently. A new check is one function here or in a file below, and one line in [`examine`].

mod access;
mod agents;
mod fence;
mod others;
mod question;
mod resources;
mod secrets;
mod server;

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Client;
use tokio::time::Instant;

use crate::pod_policy::{self, Tried};
use domain::check::Check;

pub use question::{Examined, Facts, Question};

/// Uid of the cluster, if it can be read.
pub async fn uid(client: &Client) -> Option<String> {
    server::uid(client).await.ok().filter(|uid| !uid.is_empty())
}

type Looking<'a> = BoxFuture<'a, Check>;

/// Runs all checks. Changes nothing in the cluster.
pub async fn examine(client: &Client, question: &Question<'_>) -> Examined {
    const REST: [&str; 14] = [
        "version",
        "clock",
        "latency",
        "identity",
        "namespaces",
        "definitions",
        "permissions",
        "fence",
        "pod-policy",
        "pods",
        "other-manager",
        "node-agent",
        "secret-references",
        "login-end",
    ];
    let due = Instant::now() + question.within;
    let first = tokio::time::timeout_at(due, access::connect(client, question.login_ends)).await;
    let mut examined = match first {
        Ok((checks, facts)) => Examined { checks, facts },
        Err(_) => Examined { checks: vec![late("reachable", question.within)], facts: Facts::default() },
    };
    if let Some(failed) = examined.checks.iter().find(|check| check.is_failed()).map(|check| check.name) {
        let all = ["reachable", "ca", "login"].into_iter().chain(REST);
        let done: Vec<_> = examined.checks.iter().map(|check| check.name).collect();
        let rest = all.filter(|name| !done.contains(name)).map(|name| Check::skipped(name, failed));
        examined.checks.extend(rest.collect::<Vec<_>>());
        return examined;
    }
    let skew = examined.facts.clock_skew;
    let (found_version, found_uid) = tokio::join!(
        tokio::time::timeout_at(due, server::version(client, question.spec.fence)),
        tokio::time::timeout_at(due, server::uid(client)),
    );
    let (version, server_version) =
        found_version.unwrap_or_else(|_| (late("version", question.within), String::new()));
    let uid = found_uid.unwrap_or_else(|_| Err("no answer".to_owned()));
    let (identity, cluster_uid) = server::identity(uid, question);
    let tried = pod_policy::try_pods(client, question.spec, question.samples).boxed().shared();
    let rest: Vec<(&'static str, Looking<'_>)> = vec![
        ("version", std::future::ready(version).boxed()),
        ("clock", std::future::ready(server::clock(skew)).boxed()),
        ("latency", server::latency(client, question.probe_deadline).boxed()),
        ("identity", std::future::ready(identity).boxed()),
        ("namespaces", resources::namespaces(client, question).boxed()),
        ("definitions", resources::definitions(client).boxed()),
        ("permissions", access::permissions(client, question).boxed()),
        ("fence", fence::check(client, question.spec, question.installation).boxed()),
        ("pod-policy", tried.clone().map(Tried::policy).boxed()),
        ("pods", tried.map(Tried::pods).boxed()),
        ("other-manager", others::other_manager(client, question, skew).boxed()),
        ("node-agent", agents::node_agent(client, question).boxed()),
        ("secret-references", secrets::references(client, question).boxed()),
        ("login-end", std::future::ready(access::login_end(question.login_ends, Timestamp::now())).boxed()),
    ];
    let looking = rest.into_iter().map(|(name, check)| async move {
        tokio::time::timeout_at(due, check).await.unwrap_or_else(|_| late(name, question.within))
    });
    examined.checks.extend(futures::future::join_all(looking).await);
    (examined.facts.server_version, examined.facts.cluster_uid) = (server_version, cluster_uid);
    examined
}

fn late(name: &'static str, within: Duration) -> Check {
    Check::failed(name, format!("no answer within {within:?}"), "check the network and the apiserver")
}

#[cfg(test)]
mod tests;
