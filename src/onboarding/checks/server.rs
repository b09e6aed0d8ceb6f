//! Checks of the apiserver: version, clock, latency, identity of the cluster.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::time::Instant;

use super::question::{Question, told};
use domain::check::Check;
use domain::cluster::FenceMode;

/// The oldest minor version of Kubernetes 1 that has what the fence is made of.
const OLDEST_FENCED: u32 = 30;
/// The oldest that is taken at all.
const OLDEST: u32 = 25;
/// How far clocks may be apart: timeouts are counted across them.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(30);
/// From here on it is worth a warning; the header counts in seconds.
const SOME_SKEW: SignedDuration = SignedDuration::from_secs(5);
/// Calls that are timed.
const TIMED: usize = 3;

/// The check, and the version.
pub(super) async fn version(client: &Client, fence: FenceMode) -> (Check, String) {
    const NAME: &str = "version";
    let info = match client.apiserver_version().await {
        Ok(info) => info,
        Err(error) => return (Check::failed(NAME, told(error), "check the apiserver"), String::new()),
    };
    let minor: String = info.minor.chars().take_while(char::is_ascii_digit).collect();
    let oldest = match fence {
        FenceMode::Enforced => OLDEST_FENCED,
        FenceMode::Off => OLDEST,
    };
    let old = info.major != "1" || minor.parse::<u32>().is_ok_and(|minor| minor < oldest);
    let check = if old {
        let detail = format!("Kubernetes is {}, and 1.{oldest} or later is needed", info.git_version);
        Check::failed(NAME, detail, "upgrade the cluster")
    } else {
        Check::ok(NAME, format!("Kubernetes {}", info.git_version))
    };
    (check, info.git_version)
}

pub(super) fn clock(skew: SignedDuration) -> Check {
    const NAME: &str = "clock";
    const REMEDY: &str = "synchronise both clocks by NTP";
    let side = if skew.is_negative() { "behind" } else { "ahead of" };
    let detail = format!("{} s {side} this machine's", skew.abs().as_secs());
    if skew.abs() > MOST_SKEW {
        Check::failed(NAME, format!("{detail}; the limit is {} s", MOST_SKEW.as_secs()), REMEDY)
    } else if skew.abs() > SOME_SKEW {
        Check::warning(NAME, detail, REMEDY)
    } else {
        Check::ok(NAME, detail)
    }
}

/// The middle one of a few calls, against the deadline of a health probe.
pub(super) async fn latency(client: &Client, deadline: Duration) -> Check {
    const NAME: &str = "latency";
    let mut took = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        let start = Instant::now();
        if let Err(error) = client.apiserver_version().await {
            return Check::failed(NAME, told(error), "check the apiserver");
        }
        took.push(start.elapsed());
    }
    took.sort();
    let middle = took.get(TIMED / 2).copied().unwrap_or_default();
    let detail = format!(
        "{} ms a call; the deadline of a health probe is {} ms",
        middle.as_millis(),
        deadline.as_millis()
    );
    let remedy = "check the network, or raise federation.health.deadline and federation.health.probe";
    if middle >= deadline {
        Check::failed(NAME, detail, remedy)
    } else if middle >= deadline / 2 {
        Check::warning(NAME, detail, remedy)
    } else {
        Check::ok(NAME, detail)
    }
}

/// Uid of `kube-system`; empty where it may not be read.
pub(super) async fn uid(client: &Client) -> Result<String, String> {
    match Api::<Namespace>::all(client.clone()).get("kube-system").await {
        Ok(namespace) => Ok(namespace.metadata.uid.unwrap_or_default()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(String::new()),
        Err(error) => Err(told(error)),
    }
}

/// Whether it is the cluster that it is taken for.
pub(super) fn identity(uid: Result<String, String>, question: &Question<'_>) -> (Check, String) {
    const NAME: &str = "identity";
    let remedy = "use a kubeconfig of the same cluster; register another cluster under another name";
    let uid = match uid {
        Ok(uid) => uid,
        Err(reason) => return (Check::failed(NAME, reason, "check the apiserver"), String::new()),
    };
    let grant = "let the login get namespaces (clusters/member/rbac.yaml)";
    let check = match (question.uid.filter(|known| !known.is_empty()), uid.as_str()) {
        (Some(known), found) if known == found => Check::ok(NAME, "the same cluster as registered"),
        (Some(_), "") => Check::failed(NAME, "the login may not read which cluster it is", grant),
        (Some(_), _) => Check::failed(NAME, "it is not the cluster that is registered", remedy),
        (None, "") => Check::warning(
            NAME,
            "the login may not read which cluster it is; only its address is known",
            grant,
        ),
        (None, found) => Check::ok(NAME, format!("cluster {found}")),
    };
    (check, uid)
}
