//! Why an apiserver rejected a request, without the text of its response.
//!
//! Reasons and causes decide if there are any, else the text ([`texts`]). The text of an apiserver or a webhook quotes
//! what it rejects, and that may hold secrets. So only parts that cannot are kept: fields by their path, names of
//! policies, webhooks and quotas, and the rules of the CRDs.

use std::fmt;

use kube::core::Status;
use kube::core::response::StatusCause;

use crate::texts::{self, Said};
use k8s::resources::rule_messages;

/// Fields that are named; the others are counted.
const MOST_FIELDS: usize = 8;
/// Manifests of the policies that are shipped.
const SHIPPED: [&str; 2] = [
    include_str!("../../../clusters/member/fence.yaml"),
    include_str!("../../../clusters/member/pod-policy.yaml"),
];
/// Longest path of a field that is shown, in bytes.
const LONGEST_PATH: usize = 256;

/// The rule that a rejected request broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Code and reason say all that may be shown.
    Unnamed,
    /// A rule of this process, in its words.
    Own(&'static str),
    /// Fields hold what they must not.
    Fields {
        /// The first of them.
        named: Vec<BrokenField>,
        /// How many more there are.
        more: usize,
    },
    /// An admission webhook denied it.
    Webhook(String),
    /// An admission webhook could not be asked.
    WebhookFailed(String),
    /// An admission webhook does not support dry runs, so this one says nothing.
    NoDryRun(String),
    /// A ValidatingAdmissionPolicy denied it.
    Policy {
        /// Its name.
        name: String,
        /// The rule, where the policy is one that is shipped with this program.
        says: Option<&'static str>,
    },
    /// A quota is used up: its name, and amounts by resource.
    Quota(String),
    /// A LimitRange of the namespace does not allow it, in its words.
    LimitRange(String),
    /// A RuntimeClass that does not exist.
    NoRuntimeClass(String),
    /// The level of Pod Security that the namespace enforces.
    PodSecurity(String),
    /// The login lacks a right: verb and resource.
    Rights(String),
    /// The login may not act as somebody else.
    Impersonation,
    /// The namespace is being deleted.
    Terminating,
    /// The object of that name has another uid.
    OtherUid,
    /// The resource version lies in the future of that apiserver.
    LaterVersion,
}

/// A field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenField {
    /// Its path, keys of maps left out.
    pub path: String,
    /// What is wrong: a rule of the CRD in its words, or the apiserver's category, such as `FieldValueInvalid`.
    pub why: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => f.write_str("the apiserver rejected it"),
            Self::Own(text) => f.write_str(text),
            Self::Fields { named, more } => {
                for (at, BrokenField { path, why }) in named.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}field {path}: {why}")?;
                }
                if *more > 0 { write!(f, ", and {more} more") } else { Ok(()) }
            }
            Self::Webhook(name) => write!(f, "admission webhook {name} denied it"),
            Self::WebhookFailed(name) => write!(f, "admission webhook {name} could not be called"),
            Self::NoDryRun(name) => write!(f, "admission webhook {name} does not support dry runs"),
            Self::Policy { name, says: None } => write!(f, "ValidatingAdmissionPolicy {name} denied it"),
            Self::Policy { name, says: Some(rule) } => {
                write!(f, "ValidatingAdmissionPolicy {name} denied it: {rule}")
            }
            Self::Quota(quota) => write!(f, "exceeded quota: {quota}"),
            Self::LimitRange(limit) => write!(f, "a LimitRange of the namespace does not allow it: {limit}"),
            Self::NoRuntimeClass(name) => write!(f, "RuntimeClass {name} does not exist"),
            Self::PodSecurity(level) => write!(f, "it violates PodSecurity {level}"),
            Self::Rights(right) => write!(f, "the login may not {right}"),
            Self::Impersonation => f.write_str("the login cannot impersonate user spaceport"),
            Self::Terminating => f.write_str("the namespace is being deleted"),
            Self::OtherUid => f.write_str("the object of that name is another one"),
            Self::LaterVersion => f.write_str("Too large resource version"),
        }
    }
}

impl Rule {
    /// The rule that a status names.
    pub fn of(status: &Status) -> Self {
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") {
            return Self::Terminating;
        }
        if causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge") {
            return Self::LaterVersion;
        }
        if let Some(rule) = texts::said(&status.message).and_then(|said| said_in_text(said, status)) {
            return rule;
        }
        // How a patch that names a uid is rejected where the object has another.
        if status.code == 422 && causes.iter().any(|cause| cause.field == "metadata.uid") {
            return Self::OtherUid;
        }
        // A webhook writes its own causes, and was handled above.
        let named: Vec<_> = causes.iter().filter_map(broken).take(MOST_FIELDS).collect();
        if named.is_empty() {
            return Self::Unnamed;
        }
        let more = causes.len().saturating_sub(named.len());
        Self::Fields { named, more }
    }
}

/// The rule that a text names; `None` where it is no such answer after all.
fn said_in_text(said: Said<'_>, status: &Status) -> Option<Rule> {
    Some(match said {
        Said::WebhookDenied(name) => Rule::Webhook(named(name)),
        Said::WebhookNoDryRun(name) => Rule::NoDryRun(named(Some(name))),
        Said::WebhookFailed(name) => Rule::WebhookFailed(named(name)),
        Said::PolicyDenied(name) => {
            let name = named(name);
            let says = shipped_rule(&status.message).filter(|_| name.starts_with("spaceport-"));
            Rule::Policy { name, says }
        }
        Said::QuotaExceeded(quota) => Rule::Quota(self::quota(quota)),
        Said::NoRuntimeClass(name) => Rule::NoRuntimeClass(named(name)),
        Said::LimitRange(limit) => Rule::LimitRange(limit.to_owned()),
        Said::PodSecurity(level) => {
            let is_level =
                |level: &&str| level.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-".contains(&b));
            Rule::PodSecurity(level.filter(is_level).unwrap_or_default().to_owned())
        }
        Said::Unauthorized(right) => return rights(right),
        Said::LaterVersion => Rule::LaterVersion,
        Said::OtherUid if status.code == 422 => Rule::OtherUid,
        Said::OtherUid => return None,
        Said::NoEarlierContainer => Rule::Own("there is no earlier container"),
        Said::ContainerWaits => Rule::Own("the container is waiting to start"),
    })
}

/// What a policy that is shipped says, in its own words.
fn shipped_rule(text: &str) -> Option<&'static str> {
    let lines = SHIPPED.iter().flat_map(|manifest| manifest.lines());
    let rules = lines.filter_map(|line| line.trim_start().strip_prefix("message: "));
    rules.map(|rule| rule.trim_matches('"')).find(|rule| !rule.is_empty() && text.ends_with(rule))
}

/// `create resource "pods" in API group …` as `create pods`.
fn rights(text: &str) -> Option<Rule> {
    let (verb, rest) = text.split_once(' ')?;
    // Newer apiservers name what of the user: `impersonate:user-info`.
    if verb.starts_with("impersonate") {
        return Some(Rule::Impersonation);
    }
    let (resource, _) = rest.strip_prefix("resource \"")?.split_once('"')?;
    let is_word = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-*".contains(&b));
    (is_word(verb) && is_word(resource)).then(|| Rule::Rights(format!("{verb} {resource}")))
}

/// A quota's name, and those amounts that are nothing but amounts.
fn quota(text: &str) -> String {
    let (name, amounts) = text.split_once(", ").unwrap_or((text, ""));
    let is_amount = |part: &str| {
        let part = ["requested: ", "used: ", "limited: "]
            .iter()
            .find_map(|word| part.strip_prefix(word))
            .unwrap_or(part);
        part.split(',').all(|amount| {
            amount.split_once('=').is_some_and(|(resource, quantity)| {
                let is_resource = resource.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_".contains(&b));
                let is_quantity = quantity.len() <= 24
                    && quantity.starts_with(|c: char| c.is_ascii_digit())
                    && quantity.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
                is_resource && resource.len() <= 128 && is_quantity
            })
        })
    };
    let shown = amounts.split(", ").filter(|part| is_amount(part)).take(MOST_FIELDS);
    std::iter::once(named(Some(name)).as_str()).chain(shown).collect::<Vec<_>>().join(", ")
}

/// A name as Kubernetes' objects have them; anything else is not shown.
fn named(name: Option<&str>) -> String {
    let is_name = |name: &&str| {
        !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    name.filter(is_name).unwrap_or("of an unusual name").to_owned()
}

/// A field whose path is one that our objects have.
fn broken(cause: &StatusCause) -> Option<BrokenField> {
    let path = path(&cause.field)?;
    let rules = rule_messages();
    let ours = rules.iter().find(|rule| cause.message.ends_with(rule.as_str()));
    let why = ours.map_or_else(|| category(&cause.reason).to_owned(), Clone::clone);
    Some(BrokenField { path, why })
}

/// A path without the keys of maps, which callers choose; `None` where it begins or looks like none of our fields.
pub(super) fn path(field: &str) -> Option<String> {
    const ROOTS: [&str; 8] =
        ["metadata", "spec", "status", "data", "stringData", "type", "webhooks", "involvedObject"];
    let root = field.split(['.', '[']).next()?;
    if !ROOTS.contains(&root) || field.len() > LONGEST_PATH {
        return None;
    }
    let mut shown = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, inner)) = rest.split_once('[') {
        shown.push_str(plain(before)?);
        let (key, after) = inner.split_once(']')?;
        let is_index = !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit());
        shown.extend(["[", if is_index { key } else { "*" }, "]"]);
        rest = after;
    }
    shown.push_str(plain(rest)?);
    Some(shown)
}

/// Names of fields; a key of a map may follow labels, annotations or data without brackets, too.
fn plain(text: &str) -> Option<&str> {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    let is_map = |(at, name): (usize, &str)| {
        at > 0 && matches!(name, "annotations" | "labels" | "data" | "stringData")
    };
    let has_key = text.rsplit('.').enumerate().any(is_map);
    (is_plain && !has_key).then_some(text)
}

/// The apiserver's categories; what else stands there was written by somebody else.
fn category(reason: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "FieldValueInvalid",
        "FieldValueRequired",
        "FieldValueNotFound",
        "FieldValueDuplicate",
        "FieldValueNotSupported",
        "FieldValueForbidden",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTooShort",
        "FieldValueTypeInvalid",
        "InternalError",
        "FieldManagerConflict",
    ];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or("it is not taken")
}

/// A status' reason, where it is one of the apiserver's own; a webhook may write anything.
pub(crate) fn reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 21] = [
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "AlreadyExists",
        "Conflict",
        "Gone",
        "Invalid",
        "ServerTimeout",
        "StoreReadError",
        "Timeout",
        "TooManyRequests",
        "BadRequest",
        "MethodNotAllowed",
        "NotAcceptable",
        "RequestEntityTooLarge",
        "UnsupportedMediaType",
        "InternalError",
        "Expired",
        "ServiceUnavailable",
        "Unknown",
        "Failure",
    ];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or("")
}

#[cfg(test)]
mod tests;
