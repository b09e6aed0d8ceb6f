use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{age, moment, text, timestamp};
use crate::table::{Layout, Table, clean, columns, note, plain, wide};
use proto::spaceport::v1::admission_constraint::Constraint;
use proto::spaceport::v1::cluster_spec::Capacity;
use proto::spaceport::v1::cluster_status::Health;
use proto::spaceport::v1::drain::State;
use proto::spaceport::v1::{
    Cluster, ClusterSpec, ClusterStatus, Condition, FenceMode, NamespaceSpec, SecretReference,
};

/// A cluster: its specification in the form of the cluster file, and its observed state under `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    pub name: String,
    region: String,
    labels: BTreeMap<String, String>,
    weight: u32,
    max_weight: u32,
    cordoned: bool,
    capacity: &'static str,
    fence: &'static str,
    admission_constraints: Vec<Value>,
    namespaces: Vec<NamespaceView>,
    /// Source of its kubeconfig; absent if the installation stores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    kubeconfig: Option<KubeconfigView>,
    version: i64,
    status: StatusView,
}

#[derive(Debug, Serialize)]
struct KubeconfigView {
    secret: SecretView,
}

#[derive(Debug, Serialize)]
struct SecretView {
    namespace: String,
    name: String,
    key: String,
}

impl KubeconfigView {
    fn sentence(&self) -> String {
        let SecretView { namespace, name, key } = &self.secret;
        format!("in Secret {namespace}/{name}, key {key}, of the host cluster")
    }
}

impl From<SecretReference> for KubeconfigView {
    fn from(SecretReference { namespace, name, key }: SecretReference) -> Self {
        Self { secret: SecretView { namespace, name, key } }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceView {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets_namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_class: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    classes: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_url_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_cluster_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry_facade_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seccomp_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduler_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear_text_secrets: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_secrets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_builder: Option<Value>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusView {
    health: String,
    reason: String,
    since: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    server_version: String,
    api_server: String,
    workspaces: u32,
    classes: Vec<String>,
    maintenance: BTreeMap<String, Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<String>,
    conditions: Vec<ConditionView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConditionView {
    r#type: String,
    state: String,
    reason: String,
    message: String,
    since: Option<Timestamp>,
}

impl From<Condition> for ConditionView {
    fn from(condition: Condition) -> Self {
        Self {
            state: condition.state().as_str_name().trim_start_matches("STATE_").to_owned(),
            since: timestamp(condition.since.as_ref()),
            r#type: condition.r#type,
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl ConditionView {
    fn sentence(&self, now: Timestamp) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        let message = if self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        format!("{} for {}{reason}{message}", self.state, age(self.since, now))
    }
}

impl From<Cluster> for ClusterView {
    fn from(cluster: Cluster) -> Self {
        let ClusterSpec {
            name,
            region,
            labels,
            weight,
            max_weight,
            cordoned,
            admission_constraints,
            namespaces,
            capacity,
            fence,
            kubeconfig_secret,
        } = cluster.spec.unwrap_or_default();
        let constraint = |constraint| match constraint {
            Some(Constraint::Permission(permission)) => serde_json::json!({ "permission": permission }),
            Some(Constraint::FeaturePreview(on)) => serde_json::json!({ "featurePreview": on }),
            None => Value::Null,
        };
        Self {
            name,
            region,
            labels,
            weight,
            max_weight,
            cordoned,
            capacity: if capacity == i32::from(Capacity::Unlimited) { "unlimited" } else { "nodes" },
            fence: if fence == i32::from(FenceMode::Off) { "off" } else { "enforced" },
            admission_constraints: admission_constraints
                .into_iter()
                .map(|c| constraint(c.constraint))
                .collect(),
            namespaces: namespaces.into_iter().map(NamespaceView::from).collect(),
            kubeconfig: kubeconfig_secret.map(KubeconfigView::from),
            version: cluster.version,
            status: cluster.status.map(StatusView::from).unwrap_or_default(),
        }
    }
}

impl From<NamespaceSpec> for NamespaceView {
    fn from(spec: NamespaceSpec) -> Self {
        let class = |json: String| serde_json::from_str(&json).unwrap_or(Value::String(json));
        let builder = &spec.image_builder_target;
        Self {
            namespace: spec.namespace,
            secrets_namespace: text(&spec.secrets_namespace),
            preferred_class: text(&spec.preferred_class),
            classes: spec.classes.into_iter().map(|(id, json)| (id, class(json))).collect(),
            url_template: text(&spec.url_template),
            port_url_template: text(&spec.port_url_template),
            workspace_cluster_host: text(&spec.workspace_cluster_host),
            registry_facade_host: text(&spec.registry_facade_host),
            seccomp_profile: text(&spec.seccomp_profile),
            scheduler_name: text(&spec.scheduler_name),
            node_agent: text(&spec.node_agent),
            clear_text_secrets: text(&spec.clear_text_secrets),
            allowed_secrets: spec.allowed_secrets,
            image_builder: text(builder).map(|target| serde_json::json!({ "targetAddr": target })),
        }
    }
}

impl From<ClusterStatus> for StatusView {
    fn from(status: ClusterStatus) -> Self {
        let health = status.health().as_str_name().trim_start_matches("HEALTH_");
        Self {
            health: if status.health() == Health::Unspecified { "UNKNOWN" } else { health }.to_owned(),
            drain: match status.drain() {
                State::Unspecified => None,
                state => Some(state.as_str_name().trim_start_matches("STATE_").to_owned()),
            },
            since: timestamp(status.since.as_ref()),
            last_seen: timestamp(status.last_seen.as_ref()),
            reason: status.reason,
            server_version: status.server_version,
            api_server: status.api_server,
            workspaces: status.workspaces,
            classes: status.classes,
            maintenance: status
                .maintenance
                .into_iter()
                .map(|one| (one.namespace, timestamp(one.until.as_ref())))
                .collect(),
            conditions: status.conditions.into_iter().map(ConditionView::from).collect(),
        }
    }
}

impl ClusterView {
    /// One line for an event; a reason may add lines.
    pub fn line(&self, event: &str, layout: Layout) -> String {
        let Self { name, region, status, .. } = self;
        let texts = [event, name, region, &status.health, &self.intent(), &self.reason()];
        columns(&texts.map(clean), layout)
    }

    /// One row per cluster, with its reason below.
    pub fn table(clusters: &[Self], now: Timestamp) -> Table {
        let mut table = Table::new([
            plain("NAME"),
            plain("REGION"),
            plain("HEALTH"),
            plain("INTENT"),
            wide("WEIGHT"),
            plain("WORKSPACES"),
            wide("VERSION"),
            plain("LAST SEEN"),
            note("REASON"),
        ]);
        for cluster in clusters {
            let status = &cluster.status;
            table.row([
                cluster.name.clone(),
                cluster.region.clone(),
                status.health.clone(),
                cluster.intent(),
                format!("{}/{}", cluster.weight, cluster.max_weight),
                status.workspaces.to_string(),
                status.server_version.clone(),
                age(status.last_seen, now),
                cluster.reason(),
            ]);
        }
        table
    }

    /// All fields of one cluster.
    pub fn details(&self, now: Timestamp) -> Table {
        let status = &self.status;
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
        };
        let namespaces: Vec<_> = self.namespaces.iter().map(|spec| spec.namespace.as_str()).collect();
        let constraints: Vec<_> = self.admission_constraints.iter().map(Value::to_string).collect();
        let conditions: Vec<(String, String)> = status
            .conditions
            .iter()
            .map(|one| (format!("condition {}", one.r#type), one.sentence(now)))
            .collect();
        let fields = [
            ("name", self.name.clone()),
            ("region", self.region.clone()),
            ("health", format!("{} for {}", status.health, age(status.since, now)).replace(" for  ", "")),
            ("reason", status.reason.clone()),
            ("last seen", age(status.last_seen, now)),
            ("intent", self.intent()),
            ("maintenance", self.maintenance(now)),
            ("weight", format!("{} of {}", self.weight, self.max_weight)),
            ("capacity", self.capacity.to_owned()),
            ("labels", pairs(&self.labels)),
            ("admission", constraints.join(", ")),
            ("namespaces", namespaces.join(", ")),
            ("classes", status.classes.join(", ")),
            ("workspaces", status.workspaces.to_string()),
            ("api server", status.api_server.clone()),
            ("kubeconfig", self.kubeconfig.as_ref().map(KubeconfigView::sentence).unwrap_or_default()),
            ("kubernetes", status.server_version.clone()),
            ("version", self.version.to_string()),
        ];
        Table::of_fields(
            fields.into_iter().chain(conditions.iter().map(|(name, text)| (name.as_str(), text.clone()))),
        )
    }

    /// What is wrong: the reason of its health, or else its first false condition.
    fn reason(&self) -> String {
        let Self { status, .. } = self;
        let wrong = status.conditions.iter().find(|one| one.state == "FALSE");
        match wrong.filter(|_| status.reason.is_empty()) {
            Some(one) => {
                let why = if one.message.is_empty() { &one.reason } else { &one.message };
                format!("{} is false: {why}", one.r#type)
            }
            None => status.reason.clone(),
        }
    }

    /// Its false conditions: name, since when, and why.
    pub fn faults(&self) -> impl Iterator<Item = (&str, Option<Timestamp>, String)> {
        let wrong = self.status.conditions.iter().filter(|one| one.state == "FALSE");
        wrong.map(|one| (one.r#type.as_str(), one.since, format!("{}: {}", one.reason, one.message)))
    }

    /// Region, health, when it last answered, and intent.
    pub fn summary(&self) -> (&str, &str, Option<Timestamp>, String) {
        (&self.region, &self.status.health, self.status.last_seen, self.intent())
    }

    fn intent(&self) -> String {
        let cordoned = if self.cordoned { "cordoned" } else { "active" };
        let drain = self.status.drain.as_ref().map(|state| format!("drain {}", state.to_lowercase()));
        let cordoned = match (&drain, self.cordoned) {
            (Some(drain), false) => drain,
            (Some(drain), true) => &format!("cordoned, {drain}"),
            (None, _) => cordoned,
        };
        let maintained = &self.status.maintenance;
        if maintained.is_empty() {
            return cordoned.to_owned();
        }
        let all = self.namespaces.iter().all(|spec| maintained.contains_key(&spec.namespace));
        let names: Vec<_> = maintained.keys().map(String::as_str).collect();
        let place = if all { String::new() } else { format!(" of {}", names.join("+")) };
        let before = if cordoned == "active" { String::new() } else { format!("{cordoned}, ") };
        format!("{before}maintenance{place}")
    }

    fn maintenance(&self, now: Timestamp) -> String {
        let one =
            |(name, until): (&String, &Option<Timestamp>)| format!("{name} until {}", moment(*until, now));
        self.status.maintenance.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}
