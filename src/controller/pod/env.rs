//! Environment of the workspace's container, in the order that its programs expect.

use k8s_openapi::api::core::v1::EnvVar;

use domain::env::literal;
use k8s::resources;

use super::input::{PodInput, under_workspace};

const IDE_PORT: &str = "23000";
const CA_PATH: &str = "/etc/ssl/certs/gitpod-ca.crt";
const MEBIBYTE: u64 = 1024 * 1024;

/// Variables of the user that may begin with `GITPOD_`.
const USER_GITPOD_VARIABLES: [&str; 9] = [
    "GITPOD_WORKSPACE_CONTEXT",
    "GITPOD_WORKSPACE_CONTEXT_URL",
    "GITPOD_TASKS",
    "GITPOD_RESOLVED_EXTENSIONS",
    "GITPOD_EXTERNAL_EXTENSIONS",
    "GITPOD_WORKSPACE_CLASS_INFO",
    "GITPOD_IDE_ALIAS",
    "GITPOD_RLIMIT_CORE",
    "GITPOD_IMAGE_AUTH",
];

/// All variables. A name may occur twice: the last one wins, as in any pod.
pub(super) fn environment(input: &PodInput<'_>) -> Vec<EnvVar> {
    let spec = &input.workspace.spec;
    let mut env = identity(input);
    if let Some(git) = &spec.git {
        env.push(plain("GITPOD_GIT_USER_NAME", &git.username));
        env.push(plain("GITPOD_GIT_USER_EMAIL", &git.email));
    }
    if input.settings.custom_ca {
        env.extend(
            ["NODE_EXTRA_CA_CERTS", "GIT_SSL_CAPATH", "GIT_SSL_CAINFO"].map(|name| plain(name, CA_PATH)),
        );
    }
    env.extend(spec.sys_env_vars.iter().map(from_resource));
    env.extend(spec.user_env_vars.iter().filter(|variable| is_for_users(&variable.name)).map(from_resource));
    env.extend(measures(input));
    env.retain(|variable| {
        let has_value = variable.value.as_ref().is_some_and(|value| !value.is_empty());
        !variable.name.is_empty() && (has_value || variable.value_from.is_some())
    });
    env
}

fn identity(input: &PodInput<'_>) -> Vec<EnvVar> {
    let (spec, settings) = (&input.workspace.spec, input.settings);
    let first_root = input.checkout_roots.first().map_or("", String::as_str);
    let ca_key = spec.ssh_gateway_ca_public_key.as_deref().unwrap_or_default();
    vec![
        plain("GITPOD_REPO_ROOT", first_root),
        plain("GITPOD_REPO_ROOTS", &input.checkout_roots.join(",")),
        plain("GITPOD_OWNER_ID", &spec.ownership.owner),
        plain("GITPOD_WORKSPACE_ID", &spec.ownership.workspace_id),
        plain("GITPOD_INSTANCE_ID", input.id),
        plain("GITPOD_THEIA_PORT", IDE_PORT),
        plain("THEIA_WORKSPACE_ROOT", &under_workspace(&spec.workspace_location)),
        plain("GITPOD_HOST", &settings.host_url),
        plain("GITPOD_WORKSPACE_URL", &input.url),
        plain("GITPOD_WORKSPACE_CLUSTER_HOST", &settings.workspace_cluster_host),
        plain("GITPOD_WORKSPACE_CLASS", &spec.class),
        plain("THEIA_SUPERVISOR_ENDPOINT", ":22999"),
        plain("THEIA_WEBVIEW_EXTERNAL_ENDPOINT", "webview-{{hostname}}"),
        plain("THEIA_MINI_BROWSER_HOST_PATTERN", "browser-{{hostname}}"),
        plain("GITPOD_SSH_CA_PUBLIC_KEY", ca_key),
    ]
}

fn measures(input: &PodInput<'_>) -> Vec<EnvVar> {
    let requests = &input.class.requests;
    let mut env = vec![
        plain("GITPOD_INTERVAL", &input.settings.heartbeat_interval.as_millis().to_string()),
        plain("GITPOD_MEMORY", &(requests.memory.value() / MEBIBYTE).to_string()),
        plain("GITPOD_CPU_COUNT", &requests.cpu.value().to_string()),
    ];
    if input.headless() {
        env.push(plain("GITPOD_HEADLESS", "true"));
    }
    env
}

fn is_for_users(name: &str) -> bool {
    !name.starts_with("GITPOD_") || USER_GITPOD_VARIABLES.contains(&name)
}

fn from_resource(variable: &resources::EnvVar) -> EnvVar {
    let variable = EnvVar::from(variable.clone());
    EnvVar { value: variable.value.as_deref().map(literal), ..variable }
}

/// A variable with a literal value: `$` is escaped, so that the kubelet expands nothing.
fn plain(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(literal(value)), value_from: None }
}
