//! The only place that decides by texts of Kubernetes: messages of an apiserver, its storage or a kubelet that come
//! without a reason or cause for programs.
//!
//! Where there is such a reason, it decides, and no text is listed here. Patterns are anchored at the beginning of a
//! text, before anything that a caller wrote. `e2e/tests/answers.rs` checks the texts of the apiserver against a real
//! one: a version that words them differently fails there.

/// What an apiserver says. Names are as they stand there, whatever they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A webhook of this name denied the request; `None`: its name does not end.
    WebhookDenied(Option<&'a str>),
    /// A webhook does not support dry runs.
    WebhookNoDryRun(&'a str),
    /// A webhook could not be called.
    WebhookFailed(Option<&'a str>),
    /// A `ValidatingAdmissionPolicy` denied the request.
    PolicyDenied(Option<&'a str>),
    /// A quota is exceeded: its name and amounts.
    QuotaExceeded(&'a str),
    /// A RuntimeClass of this name does not exist.
    NoRuntimeClass(Option<&'a str>),
    /// A LimitRange does not allow it: the first limit that is broken.
    LimitRange(&'a str),
    /// The level of Pod Security that is violated.
    PodSecurity(Option<&'a str>),
    /// What the user may not do: `create resource "pods" in API group …`.
    Unauthorized(&'a str),
    /// The resource version lies in the future.
    LaterVersion,
    /// The uid is not the object's.
    OtherUid,
    /// There is no earlier container.
    NoEarlierContainer,
    /// The container waits to start, so that it has no log.
    ContainerWaits,
}

/// What an apiserver's text says; `None` where it says nothing that is decided by.
pub(crate) fn said(text: &str) -> Option<Said<'_>> {
    webhook(text).or_else(|| log(text)).or_else(|| forbidden(without_object(text))).or_else(|| invalid(text))
}

fn webhook(text: &str) -> Option<Said<'_>> {
    if let Some(rest) = text.strip_prefix("admission webhook \"") {
        if let Some((name, _)) = rest.split_once("\" does not support dry run") {
            return Some(Said::WebhookNoDryRun(name));
        }
        return Some(Said::WebhookDenied(before(rest, "\" denied the request")));
    }
    let failed = text.strip_prefix("Internal error occurred: ").unwrap_or(text);
    Some(Said::WebhookFailed(before(failed.strip_prefix("failed calling webhook \"")?, "\"")))
}

fn log(text: &str) -> Option<Said<'_>> {
    if text.starts_with("previous terminated container \"") {
        return Some(Said::NoEarlierContainer);
    }
    let is_waiting = text.starts_with("container \"") && text.contains("\" is waiting to start");
    is_waiting.then_some(Said::ContainerWaits)
}

/// What follows `pods "x" is forbidden: `; the text itself where it does not begin so.
fn without_object(text: &str) -> &str {
    let is_kind = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-/:".contains(&b));
    let Some((_, rest)) = text.split_once(' ').filter(|(kind, _)| is_kind(kind)) else { return text };
    let rest = match rest.strip_prefix('"').and_then(|rest| rest.split_once("\" ")) {
        Some((name, rest)) if is_kind(name) || name.is_empty() => rest,
        Some(_) => return text,
        None => rest,
    };
    rest.strip_prefix("is forbidden: ").unwrap_or(text)
}

fn forbidden(text: &str) -> Option<Said<'_>> {
    if let Some(rest) = text.strip_prefix("ValidatingAdmissionPolicy '") {
        return Some(Said::PolicyDenied(before(rest, "'")));
    }
    if let Some(rest) = text.strip_prefix("exceeded quota: ") {
        return Some(Said::QuotaExceeded(rest));
    }
    if let Some(rest) = text.strip_prefix("violates PodSecurity \"") {
        return Some(Said::PodSecurity(before(rest, "\"")));
    }
    if let Some(rest) = text.strip_prefix("pod rejected: RuntimeClass \"") {
        return Some(Said::NoRuntimeClass(before(rest, "\" not found")));
    }
    if let Some(limit) = limit_range(text) {
        return Some(Said::LimitRange(limit));
    }
    let (_, right) = text.strip_prefix("User \"")?.split_once("\" cannot ")?;
    Some(Said::Unauthorized(right))
}

/// The first limit of a LimitRange that is broken: `maximum memory usage per Container is 1Gi`. Several stand in brackets.
fn limit_range(text: &str) -> Option<&str> {
    let text = text.strip_prefix('[').unwrap_or(text);
    let end = [", but ", ".  No "].into_iter().filter_map(|end| text.find(end)).min()?;
    let limit = text.get(..end)?;
    let words: Vec<&str> = limit.split(' ').collect();
    let [bound, resource, "usage", "per", scope, "is", quantity] = words.as_slice() else { return None };
    let is_word = |word: &str, more: &[u8]| {
        word.len() <= 128 && word.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let is_known = matches!(*bound, "maximum" | "minimum") && is_word(scope, b"");
    (is_known && is_word(resource, b"./-_") && is_word(quantity, b".")).then_some(limit)
}

/// The texts that apiservers send with a cause, and some without.
fn invalid(text: &str) -> Option<Said<'_>> {
    if text.strip_prefix("Timeout: ").unwrap_or(text).starts_with("Too large resource version") {
        return Some(Said::LaterVersion);
    }
    let (_, why) = text.split_once(" is invalid: ")?;
    why.starts_with("metadata.uid: ").then_some(Said::OtherUid)
}

fn before<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    text.split_once(end).map(|(name, _)| name)
}

/// What etcd, its client in the apiserver, and SQL storage below kine say of an object that is too large. The apiserver passes
/// it on with code 500.
const TOO_LARGE: [&str; 6] = [
    "etcdserver: request is too large",
    "rpc error: code = ResourceExhausted desc = trying to send message larger than max",
    "rpc error: code = ResourceExhausted desc = grpc: received message larger than max",
    "grpc: trying to send message larger than max",
    "trying to send message larger than max",
    "rpc error: code = InvalidArgument desc = etcdserver: request is too large",
];
/// What an apiserver may put before the text of an error that is not its own.
const WRAPPERS: [&str; 2] = ["Internal error occurred: ", "rpc error: code = Unknown desc = "];

/// Whether storage says that an object is too large.
pub(crate) fn is_too_large(mut text: &str) -> bool {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| text.strip_prefix(wrapper)) {
        text = rest;
    }
    TOO_LARGE.iter().any(|said| text.starts_with(said))
}

/// Whether a kubelet says that a pod, or a container of it, used more of the node's disk than its own limit. Pressure that others
/// made is said in other words.
pub fn is_over_disk_limit(text: &str) -> bool {
    let said = [
        "ephemeral local storage usage exceeds the total limit of containers",
        "exceeded its local ephemeral storage limit",
    ];
    let volume = text.contains("Usage of EmptyDir volume ") && text.contains(" exceeds the limit ");
    volume || said.iter().any(|said| text.contains(said))
}

/// Whether a kubelet says that it refused a pod, whose reason may be any.
pub fn is_pod_refused(text: &str) -> bool {
    text.starts_with("Pod was rejected")
}

/// Whether a container runtime says that the image lacks the program of a command. Runtimes word it in their own ways,
/// after words of the runtime's interface.
pub fn is_no_program(text: &str) -> bool {
    let said = ["no such file or directory", "executable file not found", "executable file `"];
    said.iter().any(|said| text.contains(said))
}

/// Whether an apiserver says that it cannot reach the kubelet of a pod.
pub fn is_node_unreachable(text: &str) -> bool {
    let said = [
        "error dialing backend",
        "dial tcp ",
        "unable to upgrade connection",
        "no preferred addresses found",
    ];
    said.iter().any(|said| text.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_words_on_disk_tell_a_pods_own_limit_from_pressure_of_the_node() {
        for own in [
            "Pod ephemeral local storage usage exceeds the total limit of containers 5Gi. ",
            "Container workspace exceeded its local ephemeral storage limit \"5Gi\". ",
            "Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Gi\". ",
        ] {
            assert!(is_over_disk_limit(own) && is_over_disk_limit(&format!("Evicted: {own}")), "{own}");
        }
        let pressure = "The node was low on resource: ephemeral-storage. Container workspace was using 1Gi, which exceeds \
                        its request of 0. ";
        assert!(!is_over_disk_limit(pressure));
    }

    #[test]
    fn a_pattern_counts_at_the_beginning_alone() {
        let texts = [
            "admission webhook \"a.b\" denied the request: no",
            "Internal error occurred: failed calling webhook \"a.b\": no",
            "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1",
            "Timeout: Too large resource version: 5, current: 4",
        ];
        for text in texts {
            assert!(said(text).is_some(), "{text}");
            assert_eq!(said(&format!("hunter2 {text}")), None, "{text}");
        }
    }
}
