//! Checks of the connection: address, certificate authority, login, rights.

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use tokio::time::Instant;

use super::question::{Facts, Question, told};
use crate::needs::{IN_CLUSTER, IN_NAMESPACE, IN_SECRETS_NAMESPACE, Needs, TO_CHECK, TO_COUNT};
use domain::check::Check;
use domain::cluster::{Capacity, FenceMode};
use member::client::{FENCE_USER, Fault};
use member::error::Rule;
use member::rivals::OTHER_LEADER;

/// Access reviews at once.
const AT_ONCE: usize = 8;
/// A login that ends sooner is worth a warning.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
const GRANT: &str = "apply clusters/member/rbac.yaml there, or run `spaceport cluster install`";

/// Address, authority and login; later checks make sense only where all three are good.
pub(super) async fn connect(client: &Client, ends: Option<Timestamp>) -> (Vec<Check>, Facts) {
    let mut facts = Facts::default();
    let start = Instant::now();
    let request = http::Request::get("/version").body(Body::empty());
    let answer = match request {
        Ok(request) => client.send(request).await.map_err(|error| (is_untrusted(&error), told(error))),
        Err(error) => Err((false, error.to_string())),
    };
    match answer {
        Err((true, reason)) => {
            let reached = Check::ok("reachable", "connected");
            let remedy = "correct certificate-authority-data or tls-server-name in the kubeconfig, or the apiserver's \
                          certificate";
            (vec![reached, Check::failed("ca", reason, remedy)], facts)
        }
        Err((false, reason)) => {
            let remedy = "check the address in the kubeconfig, the network and the apiserver";
            (vec![Check::failed("reachable", reason, remedy)], facts)
        }
        Ok(answer) if answer.status().is_server_error() => {
            let detail = format!("the apiserver answers {}", answer.status());
            (vec![Check::failed("reachable", detail, "check the apiserver")], facts)
        }
        Ok(answer) => {
            facts.latency = start.elapsed();
            facts.clock_skew = skew(answer.headers());
            drop(answer);
            let reached = Check::ok("reachable", "the apiserver answers");
            let proven = Check::ok("ca", "certificate verified");
            (vec![reached, proven, login(client, ends).await], facts)
        }
    }
}

fn is_untrusted(error: &kube::Error) -> bool {
    let kube::Error::Service(error) = error else { return false };
    matches!(error.downcast_ref(), Some(Fault::Untrusted(_)))
}

/// By the `Date` header; none where there is none.
fn skew(headers: &http::HeaderMap) -> SignedDuration {
    let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    date.map_or(SignedDuration::ZERO, |date| date.timestamp().duration_since(Timestamp::now()))
}

async fn login(client: &Client, ends: Option<Timestamp>) -> Check {
    const NAME: &str = "login";
    let api = Api::<SelfSubjectReview>::all(client.clone());
    match api.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => {
            let user = review.status.and_then(|status| status.user_info).and_then(|info| info.username);
            match user.as_deref() {
                Some("system:anonymous") => Check::failed(
                    NAME,
                    "the apiserver treats the login as anonymous",
                    "give a token or a certificate",
                ),
                Some(user) => Check::ok(NAME, format!("logged in as {user:?}")),
                None => Check::ok(NAME, "logged in"),
            }
        }
        Err(kube::Error::Api(status)) if status.code == 401 => {
            let ended = ends.filter(|ends| *ends <= Timestamp::now());
            let why = ended.map(|ends| format!(": it expired at {ends}")).unwrap_or_default();
            let detail = format!("the apiserver rejects the login (401){why}");
            Check::failed(NAME, detail, "create a new token or certificate")
        }
        Err(kube::Error::Api(status)) if status.code == 403 && Rule::of(&status) == Rule::Impersonation => {
            Check::failed(NAME, "the login may not act as user spaceport", GRANT)
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            Check::warning(NAME, "the apiserver does not say who the login is", GRANT)
        }
        Err(error) => Check::failed(NAME, told(error), "check the apiserver"),
    }
}

pub(super) fn login_end(ends: Option<Timestamp>, now: Timestamp) -> Check {
    const NAME: &str = "login-end";
    const REMEDY: &str = "run `spaceport cluster update NAME --kubeconfig FILE` with a new one";
    let Some(ends) = ends else { return Check::ok(NAME, "the login does not expire") };
    let left = ends.duration_since(now);
    if left <= SignedDuration::ZERO {
        Check::failed(NAME, format!("the login expired at {ends:.0}"), REMEDY)
    } else if left < SOON {
        Check::warning(NAME, format!("the login expires at {ends:.0}"), REMEDY)
    } else {
        Check::ok(NAME, format!("the login expires at {ends:.0}"))
    }
}

/// A right that is asked for.
type Right = ResourceAttributes;

/// Asked in one call a namespace (`SelfSubjectRulesReview`). What that answer does not list, since it may be incomplete,
/// and what must hold in the whole cluster is asked one by one.
pub(super) async fn permissions(client: &Client, question: &Question<'_>) -> Check {
    const NAME: &str = "permissions";
    let mut unsure = rights(IN_CLUSTER, None);
    if question.spec.capacity == Capacity::Nodes {
        unsure.extend(rights(TO_COUNT, None));
    }
    let optional = rights(TO_CHECK, None);
    for namespace in &question.spec.namespaces {
        let wanted = [
            (IN_NAMESPACE, namespace.namespace.as_str()),
            (IN_SECRETS_NAMESPACE, namespace.secrets_namespace.as_str()),
        ];
        for (needs, name) in wanted {
            let rules = rules(client, name).await.unwrap_or_default();
            unsure.extend(rights(needs, Some(name)).into_iter().filter(|right| !is_covered(right, &rules)));
        }
    }
    let (missing, nice) = match (refused(client, unsure).await, refused(client, optional).await) {
        (Ok(missing), Ok(nice)) => (missing, nice),
        (Err(error), _) | (_, Err(error)) => {
            return Check::failed(NAME, told(error), "check the apiserver");
        }
    };
    if !missing.is_empty() {
        return lacking(client, question, &missing).await;
    }
    if !nice.is_empty() {
        let detail = format!(
            "the login has every right that the manager needs; for checks only, it {}",
            nice.join("; ")
        );
        return Check::warning(NAME, detail, GRANT);
    }
    Check::ok(NAME, "the login has every right that the manager needs")
}

/// Without the fence the login needs the rights itself; one that is made for the fence only acts as user spaceport.
async fn lacking(client: &Client, question: &Question<'_>, missing: &[String]) -> Check {
    const NAME: &str = "permissions";
    let detail = format!("the login {}", missing.join("; "));
    if question.spec.fence == FenceMode::Enforced {
        return Check::failed(NAME, detail, GRANT);
    }
    let acting = Right {
        resource: Some("users".to_owned()),
        name: Some(FENCE_USER.to_owned()),
        verb: Some("impersonate".to_owned()),
        ..Right::default()
    };
    let may_act = may_not(client, acting).await.is_ok_and(|refused| refused.is_none());
    let remedy = "bind the roles of clusters/member/rbac.yaml to the login instead of user spaceport, or set fence: \
                  enforced";
    if may_act {
        // Not every right that it lacks: it has none.
        return Check::failed(
            NAME,
            "the login may only act as user spaceport, which fence: off does not use",
            remedy,
        );
    }
    Check::failed(NAME, detail, remedy)
}

fn rights(needs: Needs, namespace: Option<&str>) -> Vec<Right> {
    let one = |group: &str, resource: &str, verb: &str| {
        let (name, sub) = resource.split_once('/').map_or((resource, None), |(name, sub)| (name, Some(sub)));
        Right {
            group: Some(group.to_owned()),
            resource: Some(name.to_owned()),
            subresource: sub.map(ToOwned::to_owned),
            // Outside of its namespaces, the manager reads only this Lease.
            name: (resource == "leases" && namespace.is_none()).then(|| OTHER_LEADER.to_owned()),
            verb: Some(verb.to_owned()),
            namespace: namespace.map(ToOwned::to_owned),
            ..Right::default()
        }
    };
    let each = needs
        .iter()
        .flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| one(group, resource, verb)));
    each.collect()
}

async fn rules(client: &Client, namespace: &str) -> kube::Result<Vec<ResourceRule>> {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let api = Api::<SelfSubjectRulesReview>::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.map(|status| status.resource_rules).unwrap_or_default())
}

/// Whether a rule grants a right for objects of any name.
pub(super) fn is_covered(right: &Right, rules: &[ResourceRule]) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let sub = right.subresource.as_ref().map(|sub| format!("/{sub}")).unwrap_or_default();
    let (group, verb) = (text(&right.group), text(&right.verb));
    let resource = format!("{}{sub}", text(&right.resource));
    let any_of = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
    rules.iter().any(|rule| {
        rule.resource_names.as_ref().is_none_or(Vec::is_empty)
            && any_of(rule.api_groups.as_deref().unwrap_or_default(), &group)
            && any_of(&rule.verbs, &verb)
            && (any_of(rule.resources.as_deref().unwrap_or_default(), &resource)
                || (!sub.is_empty()
                    && any_of(rule.resources.as_deref().unwrap_or_default(), &format!("*{sub}"))))
    })
}

/// Those that the login does not have, as sentences without their subject.
async fn refused(client: &Client, asked: Vec<Right>) -> kube::Result<Vec<String>> {
    let answers: Vec<kube::Result<Option<String>>> =
        futures::stream::iter(asked).map(|right| may_not(client, right)).buffered(AT_ONCE).collect().await;
    let mut refused = Vec::new();
    for answer in answers {
        refused.extend(answer?);
    }
    Ok(refused)
}

async fn may_not(client: &Client, right: Right) -> kube::Result<Option<String>> {
    let sentence = sentence(&right);
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(right),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    let allowed = answer.status.is_some_and(|status| status.allowed);
    Ok((!allowed).then_some(sentence))
}

fn sentence(right: &Right) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (verb, resource) = (text(&right.verb), text(&right.resource));
    let sub = right.subresource.as_ref().map(|sub| format!("/{sub}")).unwrap_or_default();
    match &right.namespace {
        Some(namespace) => format!("may not {verb} {resource}{sub} in namespace {namespace}"),
        None => format!("may not {verb} {resource}{sub}"),
    }
}
