use serde_json::json;

use super::*;

fn identity(name: &str, organizations: &[&str], names: &[&str]) -> PeerIdentity {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    PeerIdentity { common_name: name.to_owned(), organizations: owned(organizations), names: owned(names) }
}

fn who(identity: PeerIdentity) -> Who {
    Who { certificate: Some(identity), peer: Some("10.0.0.7:1234".parse().unwrap()), ..Who::default() }
}

fn rules(rules: &serde_json::Value) -> Clients {
    Clients::of_rules(rules).unwrap()
}

fn judged(identity: PeerIdentity, rules: &Clients) -> Caller {
    Caller::new(who(identity), rules)
}

#[test]
fn without_rules_every_certificate_is_a_client_of_all_owners() {
    let caller = judged(identity("app", &[], &[]), &Clients::default());
    assert!(caller.is(Role::Client) && !caller.is(Role::Admin) && caller.is_unscoped());
    assert!(caller.acts_for("jane") && caller.sees_token_of("jane"));
    assert_eq!(caller.owners(), None);
}

#[test]
fn only_an_encrypted_or_local_caller_without_a_certificate_is_anybody() {
    let rules = Clients::default();
    let anonymous = Caller::new(Who { is_anonymous: true, ..Who::default() }, &rules);
    assert!(anonymous.is(Role::Client) && !anonymous.is(Role::Admin));
    let local = Caller::new(Who { is_local: true, ..Who::default() }, &rules);
    assert!(local.is(Role::Client) && local.is(Role::Admin));
    let from_elsewhere = Caller::new(Who::default(), &rules);
    assert!(!from_elsewhere.is(Role::Client) && !from_elsewhere.acts_for("jane"));
}

#[test]
fn with_an_organization_others_are_no_clients_and_admins_see_no_owner_tokens() {
    let rules = rules(&json!({ "organization": "staff" }));
    let judged = |organizations: &[&str]| judged(identity("x", organizations, &[]), &rules);
    assert!(judged(&["staff"]).is(Role::Client) && judged(&["staff"]).sees_token_of("jane"));
    assert!(!judged(&["guests"]).is(Role::Client));
    let admin = judged(&["spaceport:admin"]);
    assert!(admin.is(Role::Client) && admin.is(Role::Admin) && !admin.sees_token_of("jane"));
    assert!(judged(&["spaceport:admin", "staff"]).sees_token_of("jane"));
}

#[test]
fn a_scope_narrows_the_certificates_that_have_all_it_names_and_several_add_up() {
    let rules = rules(&json!({ "scopes": [
        { "commonName": "ci", "organization": "staff", "owners": ["jane"], "ownerTokens": false },
        { "alternativeName": "spiffe://x/ci", "owners": ["joe", "jane"] },
    ] }));
    let caller = judged(identity("ci", &["staff"], &[]), &rules);
    assert!(caller.acts_for("jane") && !caller.acts_for("joe") && !caller.sees_token_of("jane"));
    assert!(!caller.is_unscoped() && caller.is(Role::Client));
    assert!(judged(identity("ci", &["guests"], &[]), &rules).is_unscoped(), "it lacks the organization");
    let both = judged(identity("ci", &["staff"], &["spiffe://x/ci"]), &rules);
    assert_eq!(both.owners().unwrap().iter().collect::<Vec<_>>(), ["jane", "joe"]);
    assert!(both.sees_token_of("jane"));
    let admin = judged(identity("ci", &["staff", "spaceport:admin"], &[]), &rules);
    assert!(admin.is_unscoped(), "an admin of clusters can reach every workspace anyway");
}

#[test]
fn certificates_that_no_scope_names_can_be_refused() {
    let rules = rules(&json!({ "scopedOnly": true, "scopes": [{ "commonName": "ci", "owners": ["jane"] }] }));
    assert!(judged(identity("ci", &[], &[]), &rules).is(Role::Client));
    assert!(!judged(identity("other", &[], &[]), &rules).is(Role::Client));
    assert!(judged(identity("boss", &["spaceport:admin"], &[]), &rules).is(Role::Admin));
}

#[test]
fn replicas_forward_callers_with_names_of_any_alphabet() {
    let reported = who(identity("Žofie\n„x“", &["ěšč", "spaceport:admin"], &["a.example"]));
    let header = reported.header().unwrap();
    assert_eq!(Who::from_header(&header), Some(reported));
    assert_eq!(Who::from_header(&HeaderValue::from_static("no base64!")), None);
}

#[test]
fn a_call_without_an_identified_caller_may_do_nothing() {
    let caller = of(&Extensions::new());
    assert!(!caller.is(Role::Client) && !caller.acts_for("jane") && !caller.sees_token_of("jane"));
    assert!(caller.check_owner("metadata.owner", "jane").is_err() && caller.denied().is_some());
}

#[test]
fn a_start_for_an_owner_out_of_scope_is_refused_by_the_field_and_with_what_to_do() {
    let rules = rules(&json!({ "scopes": [{ "commonName": "ci", "owners": ["jane"] }] }));
    let refused = judged(identity("ci", &[], &[]), &rules).check_owner("metadata.owner", "joe").unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let said = refused.message();
    assert!(said.starts_with("metadata.owner: ") && said.contains("rpcServer.clients.scopes"), "{said}");
    let fields = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(fields[0].field, "metadata.owner");
}

#[test]
fn a_call_forwarded_by_an_earlier_version_is_rejected_where_scopes_matter() {
    let caller = Caller::of_earlier_version("app", "client,admin", &Clients::default()).unwrap();
    assert!(caller.is(Role::Admin));
    let scoped = rules(&json!({ "scopes": [{ "commonName": "ci", "owners": ["jane"] }] }));
    let refused = Caller::of_earlier_version("app", "client", &scoped).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
}
