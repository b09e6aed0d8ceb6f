//! Targets for public parsers. Those of private parsers are in the tests beside them.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use domain::class::{Class, Quantity, RawClass};
use domain::duration::GoDuration;
use domain::epoch::Epoch;
use domain::kubeconfig::exec::Exec;
use domain::kubeconfig::{self, Aliases};
use domain::names::{ClusterName, MetaId, Namespace, OwnerId, SecretKey, SecretName, WorkspaceId};
use domain::pod::Position;
use domain::secret_ref::SecretRef;
use domain::template::{PortUrl, Values, WorkspaceUrl};
use k8s::resources::{Snapshot, Workspace};
use member::client::Credentials;
use member::maintenance;
use spaceport_fuzz::{target, text_target};

/// Formatting an accepted value yields a text that is accepted as the same value.
fn comes_back<T: FromStr<Err: Debug + Display> + Display + PartialEq + Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse::<T>().as_ref().ok(), Some(&value), "{text:?}"),
        Err(error) => assert!(error.to_string().len() < 1024, "an error that quotes all of its input"),
    }
}

#[test]
fn names_that_are_accepted_come_back() {
    text_target("names", &["ws-1", "default", "a.b.c", "", "x-daemon", "3000-foo"], |text| {
        comes_back::<ClusterName>(text);
        comes_back::<WorkspaceId>(text);
        comes_back::<MetaId>(text);
        comes_back::<OwnerId>(text);
        comes_back::<Namespace>(text);
        comes_back::<SecretName>(text);
        comes_back::<SecretKey>(text);
        comes_back::<SecretRef>(text);
    });
}

#[test]
fn durations_that_are_accepted_come_back() {
    text_target("durations", &["30m", "1h2m3.5s", "-1ns", "9223372036854775807ns", "0", "1µs"], |text| {
        comes_back::<GoDuration>(text);
        if let Ok(duration) = text.parse::<GoDuration>() {
            let _ = (duration.hours_minutes(), duration.to_std().ok());
        }
    });
}

#[test]
fn quantities_are_accepted_or_refused() {
    text_target("quantities", &["1", "500m", "1Gi", "1.5e3", "0.000000001", "9E", "-1", "12e18Ki"], |text| {
        match text.parse::<Quantity>() {
            Ok(quantity) => {
                let _ = (quantity.value(), quantity.milli(), quantity.is_zero());
                assert!(quantity.as_str().parse::<Quantity>().is_ok(), "{text:?}");
            }
            Err(error) => assert!(error.to_string().len() < 1024, "{text:?}"),
        }
    });
}

#[test]
fn epochs_and_positions_that_are_accepted_come_back() {
    let seeds = [
        "6f1a4b1e-0c41-4a53-9a7c-7a5c8f6e2d10/1/42",
        "2026-01-01T00:00:00.000000001Z/3/17",
        "-9999999/0/0",
        "//",
    ];
    text_target("tokens", &seeds, |text| {
        comes_back::<Epoch>(text);
        comes_back::<Position>(text);
    });
}

#[test]
fn url_templates_that_are_accepted_render_a_url_for_any_ids() {
    let seeds = [
        "https://{{ .Prefix }}.{{ .Host }}",
        "https://{{ .WorkspacePort }}-{{ .Prefix }}.{{ .Host }}/x?y={{ .ID }}",
        "http://[::1]:8080/{{.Prefix}}",
        "https://{{ .Prefix",
    ];
    let values = Values { host: "https://ws.example.com", id: "ws-1", prefix: "a1b2" };
    text_target("url-templates", &seeds, |text| {
        if let Ok(template) = text.parse::<WorkspaceUrl>() {
            assert!(url::Url::parse(&template.render(&values)).is_ok(), "{text:?}");
        }
        if let Ok(template) = text.parse::<PortUrl>() {
            assert!(url::Url::parse(&template.render(&values, 8080)).is_ok(), "{text:?}");
        }
    });
}

#[test]
fn kubeconfigs_are_read_or_refused_without_quoting_them() {
    let cluster: ClusterName = "eu-1".parse().unwrap();
    let quotes_nothing = |error: String| {
        assert!(!error.contains("hunter2"), "the error quotes a secret: {error}");
        assert!(error.len() < 4096, "the error quotes its input: {error}");
    };
    text_target("kubeconfigs", &[], |text| {
        if let Err(error) = Credentials::parse(&cluster, text) {
            quotes_nothing(error.to_string());
        }
        // As the command line reads them.
        let chosen = match kubeconfig::choose(text, None, Aliases::Resolved) {
            Ok(chosen) => chosen,
            Err(problem) => return quotes_nothing(problem.to_string()),
        };
        match Exec::of(&chosen.user) {
            Ok(Some(exec)) => drop(exec.input(&chosen.cluster, false)),
            Ok(None) => {}
            Err(problem) => quotes_nothing(problem.to_string()),
        }
        match (chosen.login(), chosen.minimal()) {
            // What is sent is the same login to the manager.
            (Ok(login), Ok(sent)) => match Credentials::parse(&cluster, &sent) {
                Ok(credentials) => assert_eq!(credentials.server(), login.server),
                Err(error) => quotes_nothing(error.to_string()),
            },
            (Err(problem), _) | (_, Err(problem)) => quotes_nothing(problem.to_string()),
        }
    });
}

#[test]
fn maintenance_that_is_accepted_comes_back() {
    let seeds = [r#"{"enabledUntil":"2026-01-01T00:00:00Z"}"#, "{}", "", "null", "[1]"];
    text_target("maintenance", &seeds, |text| {
        if let Ok(until) = maintenance::parse(text) {
            assert_eq!(maintenance::parse(&maintenance::render(until)).ok(), Some(until), "{text:?}");
        }
    });
}

#[test]
fn classes_are_read_or_refused_by_field() {
    text_target("classes", &[], |text| {
        let Ok(raw) = serde_saphyr::from_str::<RawClass>(text) else { return };
        if let Err(problems) = Class::parse("default", &raw, Path::new("/nowhere")) {
            assert!(!problems.is_empty());
        }
    });
}

#[test]
fn resources_of_a_cluster_are_decoded_or_refused() {
    target("resources", &[], |input| {
        let _ = serde_json::from_slice::<Workspace>(input);
        let _ = serde_json::from_slice::<Snapshot>(input);
    });
}
