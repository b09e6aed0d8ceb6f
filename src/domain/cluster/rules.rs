//! Rules for the settings of a namespace without which no workspace could start. They are checked when a cluster is registered
//! or the setting changes, and in the configuration; existing registrations are not checked again.

use crate::image;
use crate::names;
use crate::path;
use crate::template::{ID_ROOM, PortUrl, Values, WorkspaceUrl};

/// Characters of a workspace namespace: node labels such as `gitpod.io/registry-facade_ready_ns_<namespace>` have at most 63.
pub const WORKSPACE_NAMESPACE_MAX: usize = 38;
/// Bytes of a registry's host: an image name has at most 255, with `/remote/` and a workspace id of 63.
const REGISTRY_MAX: usize = 255 - "/remote/".len() - 63;

/// Checks the name of a workspace namespace.
pub fn check_workspace_namespace(name: &str) -> Result<(), String> {
    if name.len() <= WORKSPACE_NAMESPACE_MAX {
        return Ok(());
    }
    Err(format!(
        "must have at most {WORKSPACE_NAMESPACE_MAX} letters, got {}: the label gitpod.io/registry-facade_ready_ns_<namespace> \
         of nodes would be too long",
        name.len()
    ))
}

/// Two workspaces with ids of the length that every template must support.
fn samples(host: &str) -> [Values<'_>; 2] {
    const IDS: [&str; 2] = ["00000000-0000-4000-8000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"];
    const { assert!(IDS[0].len() == ID_ROOM) };
    IDS.map(|id| Values { id, prefix: id, host })
}

/// Checks that a URL template renders valid hosts and different URLs for different workspaces. `host` is the installation's URL.
pub fn check_url(template: &WorkspaceUrl, host: &str) -> Result<(), String> {
    let [one, other] = samples(host);
    template.check(&one).map_err(|error| with_room(&error))?;
    if template.render(&one) == template.render(&other) {
        return Err("must name {{ .Prefix }} or {{ .ID }}: all workspaces would have one URL".to_owned());
    }
    Ok(())
}

/// Checks the same for URLs of ports.
pub fn check_port_url(template: &PortUrl, host: &str) -> Result<(), String> {
    let [one, other] = samples(host);
    template.check(&one, u16::MAX).map_err(|error| with_room(&error))?;
    if template.render(&one, 1) == template.render(&other, 1) {
        return Err("must name {{ .Prefix }} or {{ .ID }}: all workspaces would have one URL".to_owned());
    }
    if template.render(&one, 1) == template.render(&one, 2) {
        return Err(
            "must name {{ .WorkspacePort }} or {{ .IngressPort }}: all ports would have one URL".to_owned()
        );
    }
    Ok(())
}

fn with_room(error: &dyn std::fmt::Display) -> String {
    format!("must leave space for an id of {ID_ROOM} letters and a port of 5 digits: {error}")
}

/// Checks the host of a registry facade.
pub fn check_registry(host: &str) -> Result<(), String> {
    image::check_registry(host)?;
    if host.len() > REGISTRY_MAX {
        return Err(format!("must not be longer than {REGISTRY_MAX} letters"));
    }
    Ok(())
}

/// Checks the name of a scheduler.
pub fn check_scheduler(name: &str) -> Result<(), String> {
    if names::is_dns_subdomain(name) {
        Ok(())
    } else {
        Err("must be the name of a scheduler, in lower case".to_owned())
    }
}

/// Checks a seccomp profile: a file below the kubelet's folder for profiles.
pub fn check_seccomp(profile: &str) -> Result<(), String> {
    path::check_file(profile)
        .map_err(|rule| format!("must be a path below the kubelet's folder of profiles: {rule}"))
}

/// Checks the host that workspaces get in an environment variable.
pub fn check_cluster_host(host: &str) -> Result<(), String> {
    if host.len() <= 253 && host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err("must be a host name".to_owned())
}

/// Checks the folder on nodes that has the contents of workspaces.
pub fn check_host_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("must be an absolute path on the node".to_owned());
    }
    if path.split('/').any(|part| part == "..") || path.contains(|c: char| c.is_control() || c == ':') {
        return Err("must not contain `..`, colons or control characters".to_owned());
    }
    if path.len() > 1024 {
        return Err("must not be longer than 1024 bytes".to_owned());
    }
    Ok(())
}

/// Checks the gRPC target of an image builder.
pub fn check_builder(target: &str) -> Result<(), String> {
    let host = target.strip_prefix("dns:///").unwrap_or(target);
    let is_good = url::Url::parse(&format!("http://{host}")).is_ok_and(|url| {
        url.has_host() && url.path() == "/" && url.query().is_none() && url.username().is_empty()
    });
    let has_port =
        host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    if is_good && has_port {
        Ok(())
    } else {
        Err("must be a gRPC target such as image-builder:8080".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "https://host.example";

    #[test]
    fn templates_must_fit_a_uuid_and_distinguish_workspaces_and_ports() {
        let url = |text: &str| check_url(&text.parse().unwrap(), HOST);
        let port_url = |text: &str| check_port_url(&text.parse().unwrap(), HOST);
        assert_eq!(url("https://{{ .Prefix }}.ws.example"), Ok(()));
        assert_eq!(url("{{ .Host }}/start/{{ .ID }}"), Ok(()));
        assert!(url("https://ws.example").unwrap_err().contains("one URL"));
        let long = format!("https://{}-{{{{ .Prefix }}}}.ws.example", "x".repeat(27));
        assert!(url(&long).unwrap_err().contains("63 is the limit"));
        assert_eq!(port_url("https://{{ .WorkspacePort }}-{{ .Prefix }}.ws.example"), Ok(()));
        assert_eq!(port_url("https://{{ .Prefix }}.ws.example:{{ .IngressPort }}"), Ok(()));
        assert!(port_url("https://{{ .Prefix }}.ws.example").unwrap_err().contains("all ports"));
        let long =
            format!("https://{}-{{{{ .WorkspacePort }}}}-{{{{ .Prefix }}}}.ws.example", "x".repeat(21));
        assert!(port_url(&long).unwrap_err().contains("63 is the limit"), "{long}");
    }

    #[test]
    fn settings_that_no_pod_could_have_are_rejected() {
        assert_eq!(check_workspace_namespace(&"x".repeat(38)), Ok(()));
        assert!(
            check_workspace_namespace(&"x".repeat(39)).unwrap_err().contains("at most 38 letters, got 39")
        );
        assert!(check_registry("reg.example.com:20000").is_ok() && check_registry("reg/x").is_err());
        assert!(check_registry(&format!("{}example.com", "x.".repeat(90))).is_err());
        assert!(check_scheduler("my-scheduler").is_ok() && check_scheduler("My Scheduler").is_err());
        assert!(check_seccomp("workspace_v1.json").is_ok());
        assert!(check_seccomp("/etc/x.json").is_err() && check_seccomp("../x.json").is_err());
        assert!(check_cluster_host("ws.example.com").is_ok() && check_cluster_host("a b").is_err());
        assert!(check_host_path("/var/x").is_ok() && check_host_path("/var/../x").is_err());
        for good in ["image-builder:8080", "dns:///image-builder.default:8080", "[::1]:80"] {
            assert_eq!(check_builder(good), Ok(()), "{good}");
        }
        for bad in ["", "image-builder", "http://a:1", "a:0", "a:1/x", "a b:1", "a:99999"] {
            assert!(check_builder(bad).is_err(), "{bad}");
        }
    }
}
