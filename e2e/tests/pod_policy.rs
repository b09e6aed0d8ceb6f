//! The pod policy: the apiserver itself rejects pods that are more than a workspace, whoever holds the manager's login.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::story::{Story, annotated, request, run, story, until};
use e2e::harness::Cluster;
use e2e::harness::fence::as_spaceport;

/// A pod sends an epoch where no leader raised the fence, or the current one: see [`epoch`].
const FENCE: &str = "spaceport-fence";
/// Rules by which the apiserver rejects some of it before any policy.
const OF_KUBERNETES: [&str; 3] =
    ["must not contain '..'", "disallowed by cluster policy", "`hostUsers` must be false"];
/// The login of a member cluster, which writes under its own name if the fence is off.
const LOGIN: &str = "system:serviceaccount:spaceport-system:spaceport";

/// Additions to a pod: a path in the pod, and the value set there.
fn forbidden_in_a_pod() -> Vec<(&'static str, Value)> {
    let volume = |source: Value| {
        let mut volume = json!({ "name": "more" });
        volume
            .as_object_mut()
            .into_iter()
            .for_each(|all| all.extend(source.as_object().cloned().unwrap_or_default()));
        volume
    };
    let host_path = |path: &str| volume(json!({ "hostPath": { "path": path } }));
    vec![
        ("/spec/hostPID", json!(true)),
        ("/spec/hostIPC", json!(true)),
        ("/spec/hostNetwork", json!(true)),
        ("/spec/serviceAccountName", json!("default")),
        ("/spec/automountServiceAccountToken", json!(true)),
        ("/spec/securityContext/seccompProfile", json!({ "type": "Unconfined" })),
        ("/spec/securityContext/seccompProfile", Value::Null),
        ("/spec/securityContext/appArmorProfile", json!({ "type": "Localhost", "localhostProfile": "x" })),
        ("/spec/securityContext/seLinuxOptions", json!({ "type": "spc_t" })),
        ("/spec/securityContext/sysctls", json!([{ "name": "kernel.shm_rmid_forced", "value": "1" }])),
        ("/spec/securityContext/windowsOptions", json!({ "runAsUserName": "x" })),
        ("/spec/securityContext/runAsUser", json!(0)),
        ("/metadata/labels/component", json!("ws-proxy")),
        ("/metadata/labels/component", Value::Null),
        ("/metadata/labels/gitpod.io~1networkpolicy", json!("none")),
        ("/metadata/labels/gitpod.io~1networkpolicy", Value::Null),
        ("/spec/volumes/-", host_path("/")),
        ("/spec/volumes/-", host_path("/etc")),
        ("/spec/volumes/-", host_path("/var/gitpod")),
        ("/spec/volumes/-", host_path("/var/gitpod/workspaces-mk2")),
        ("/spec/volumes/-", host_path("/var/gitpod/workspaces-mk2/")),
        ("/spec/volumes/-", host_path("/var/gitpod/workspaces-mk2/.")),
        ("/spec/volumes/-", host_path("/var/gitpod/workspaces-mk2/a/../../..")),
        ("/spec/volumes/-", host_path("/var/gitpod/workspaces-mk2/../../run")),
        ("/spec/volumes/-", host_path("/var/gitpod/workspaces-mk2-evil")),
        // Users can create links below their own folder.
        ("/spec/volumes/-", host_path("/var/gitpod/workspaces-mk2/a/link")),
        ("/spec/volumes/-", volume(json!({ "persistentVolumeClaim": { "claimName": "x" } }))),
        ("/spec/volumes/-", volume(json!({ "nfs": { "server": "x", "path": "/" } }))),
        ("/spec/volumes/-", volume(json!({ "csi": { "driver": "x" } }))),
        ("/spec/volumes/-", volume(json!({ "image": { "reference": "x" } }))),
        (
            "/spec/volumes/-",
            volume(json!({ "ephemeral": { "volumeClaimTemplate": { "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } } } })),
        ),
        (
            "/spec/volumes/-",
            volume(json!({ "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } })),
        ),
    ]
}

/// The same for containers of every kind.
fn forbidden_in_a_container() -> Vec<(&'static str, Value)> {
    let elsewhere = json!({ "path": "/", "port": 80, "host": "169.254.169.254" });
    let http = json!({ "httpGet": elsewhere });
    let tcp = json!({ "tcpSocket": { "port": 80, "host": "10.0.0.1" } });
    vec![
        ("/securityContext/privileged", json!(true)),
        ("/securityContext/capabilities/add", json!(["SYS_ADMIN"])),
        ("/securityContext/capabilities/add", json!(["KILL", "NET_RAW"])),
        ("/securityContext/capabilities/add", json!(["ALL"])),
        ("/securityContext/capabilities/add", json!(["CAP_SYS_PTRACE"])),
        ("/securityContext/seccompProfile", json!({ "type": "Unconfined" })),
        ("/securityContext/appArmorProfile", json!({ "type": "Localhost", "localhostProfile": "x" })),
        ("/securityContext/seLinuxOptions", json!({ "role": "sysadm_r" })),
        ("/securityContext/windowsOptions", json!({ "gmsaCredentialSpecName": "x" })),
        ("/securityContext/procMount", json!("Unmasked")),
        ("/securityContext/runAsUser", json!(0)),
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/runAsNonRoot", Value::Null),
        ("/ports", json!([{ "containerPort": 80, "hostPort": 80 }])),
        ("/livenessProbe", http.clone()),
        ("/livenessProbe", tcp.clone()),
        ("/readinessProbe", http.clone()),
        ("/startupProbe", tcp.clone()),
        ("/lifecycle", json!({ "postStart": http })),
        ("/lifecycle", json!({ "preStop": tcp })),
    ]
}

#[test]
fn each_field_that_makes_a_pod_more_than_a_workspace_is_refused() -> Result<()> {
    story("pod-fields", 1, &["eu-1"], async |story| {
        let scene = Scene::open(story).await?;
        scene.accepts(&scene.pod).await.context("the pod of the manager")?;
        for (path, value) in forbidden_in_a_pod() {
            scene.refuses(&put(&scene.pod, path, &value)?, &format!("{path}: {value}")).await?;
        }
        for (path, value) in forbidden_in_a_container() {
            let what = format!("{path}: {value}");
            let own = put(&scene.pod, &format!("/spec/containers/0{path}"), &value)?;
            scene.refuses(&own, &what).await?;
            let mut container = put(&scene.container()?, path, &value)?;
            container["name"] = json!("first");
            let first = put(&scene.pod, "/spec/initContainers", &json!([container]))?;
            if !path.contains("Probe") && !path.contains("lifecycle") {
                scene.refuses(&first, &format!("initContainers: {what}")).await?;
            }
        }
        // Pods that are only narrower, or differ in other fields, are accepted.
        for (path, value) in [
            ("/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(false)),
            ("/spec/containers/0/securityContext/appArmorProfile", json!({ "type": "RuntimeDefault" })),
            ("/spec/containers/0/securityContext/capabilities/add", json!(["KILL"])),
            ("/spec/securityContext/seccompProfile", json!({ "type": "Localhost", "localhostProfile": "x" })),
            ("/spec/securityContext/seLinuxOptions", json!({ "level": "s0:c1,c2" })),
            ("/spec/nodeSelector", json!({ "pool": "x" })),
            ("/spec/volumes/-", json!({ "name": "more", "emptyDir": {} })),
            ("/spec/volumes/-", json!({ "name": "more", "configMap": { "name": "x" } })),
        ] {
            scene
                .accepts(&put(&scene.pod, path, &value)?)
                .await
                .with_context(|| format!("{path}: {value}"))?;
        }
        let unmasked = put(&scene.pod, "/spec/containers/0/securityContext/procMount", &json!("Unmasked"))?;
        scene.refuses(&put(&unmasked, "/spec/hostUsers", &json!(false))?, "procMount with hostUsers").await?;
        let mut generated = put(&scene.pod, "/spec/hostPID", &json!(true))?;
        generated["metadata"]["name"].take();
        generated["metadata"]["generateName"] = json!("ws-");
        scene.refuses(&generated, "a generated name").await
    })
}

#[test]
fn the_pod_policy_concerns_nobody_else_and_nothing_elsewhere() -> Result<()> {
    story("pod-others", 1, &["eu-1"], async |story| {
        let scene = Scene::open(story).await?;
        let evil = put(&scene.pod, "/spec/hostPID", &json!(true))?;
        // Any user but Spaceport, in the same namespace and in others.
        for user in ["jane", "system:serviceaccount:kube-system:replicaset-controller", "system:node:n"] {
            create(&acting_as(scene.cluster, user).await?, &story.namespace, &evil).await.context(user)?;
        }
        let outside = format!("{}-outside", story.namespace);
        let namespaces: Api<Namespace> = Api::all(scene.cluster.client());
        let other = json!({ "metadata": { "name": outside } });
        namespaces.create(&PostParams::default(), &serde_json::from_value(other)?).await?;
        let mut plain = evil.clone();
        plain["spec"]["serviceAccountName"] = json!("default");
        until("the service account of the namespace", async || {
            Ok(create(&scene.cluster.client(), &outside, &plain).await?)
        })
        .await?;
        // With the fence off, the login writes under its own name, or another one that the namespace names.
        let login = acting_as(scene.cluster, LOGIN).await?;
        denied(create(&login, &story.namespace, &evil).await, LOGIN)?;
        create(&login, &story.namespace, &scene.pod).await.context("the login's own pod")?;
        create(&login, &outside, &plain).await.context("the login elsewhere")?;
        annotate(&scene, "spaceport.dev/pod-policy-users", "other, jane").await?;
        let jane = acting_as(scene.cluster, "jane").await?;
        until("the annotation to count", async || {
            denied(create(&jane, &story.namespace, &evil).await, "a user that the namespace names")
        })
        .await
    })
}

#[test]
fn the_namespace_names_what_templates_need_besides() -> Result<()> {
    story("pod-allowed", 1, &["eu-1"], async |story| {
        let scene = Scene::open(story).await?;
        let needs = [
            ("/spec/containers/0/securityContext/capabilities/add", json!(["NET_ADMIN"])),
            ("/spec/volumes/-", json!({ "name": "m", "hostPath": { "path": "/dev/fuse" } })),
            ("/spec/volumes/-", json!({ "name": "m", "persistentVolumeClaim": { "claimName": "x" } })),
            ("/spec/serviceAccountName", json!("builder")),
            ("/spec/containers/0/securityContext/runAsNonRoot", json!(false)),
        ];
        let account = json!({ "metadata": { "name": "builder" } });
        Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(
            scene.cluster.client(),
            &story.namespace,
        )
        .create(&PostParams::default(), &serde_json::from_value(account)?)
        .await?;
        for (path, value) in &needs {
            scene.refuses(&put(&scene.pod, path, value)?, path).await?;
        }
        let allowed = "capability:NET_ADMIN, host-path:/dev/fuse,volume:persistentVolumeClaim,\n\
                       service-account:builder, root";
        annotate(&scene, "spaceport.dev/pod-policy-allow", allowed).await?;
        for (path, value) in &needs {
            let pod = put(&scene.pod, path, value)?;
            until("the annotation to count", async || Ok(scene.accepts(&pod).await?)).await?;
        }
        let deeper = json!({ "name": "m", "hostPath": { "path": "/dev/fuse/x" } });
        scene.refuses(&put(&scene.pod, "/spec/volumes/-", &deeper)?, "below an allowed path").await?;
        scene.refuses(&put(&scene.pod, "/spec/hostPID", &json!(true))?, "what nothing allows").await?;
        // Other folders of workspaces, and some that would allow everything.
        for folder in ["/mnt/workspaces", "/", "", "relative", "/mnt/../etc"] {
            annotate(&scene, "spaceport.dev/workspace-host-path", folder).await?;
            until("the annotation to count", async || scene.refuses(&scene.pod, folder).await).await?;
        }
        let moved = scene.pod.to_string().replace("/var/gitpod/workspaces-mk2", "/mnt/workspaces");
        annotate(&scene, "spaceport.dev/workspace-host-path", "/mnt/workspaces/").await?;
        until("the annotation to count", async || Ok(scene.accepts(&serde_json::from_str(&moved)?).await?))
            .await
    })
}

#[test]
fn a_pod_that_is_there_loses_its_finalizer_whatever_it_is_and_gains_nothing_forbidden() -> Result<()> {
    story("pod-updates", 1, &["eu-1"], async |story| {
        let scene = Scene::open(story).await?;
        let (admin, namespace) = (scene.cluster.client(), story.namespace.as_str());
        // From before the policy: somebody else created it.
        let mut old = put(&scene.pod, "/spec/hostPID", &json!(true))?;
        old["metadata"]["name"] = json!("old");
        old["metadata"]["finalizers"] = json!(["gitpod.io/finalizer"]);
        old["metadata"].as_object_mut().context("no metadata")?.remove("ownerReferences");
        pods(&admin, namespace).create(&PostParams::default(), &serde_json::from_value(old)?).await?;
        let own = pods(&scene.own, namespace);
        let params = PatchParams::default();
        let labels = json!({ "metadata": { "labels": { "gitpod.io/managed-by": "spaceport" } } });
        own.patch("old", &params, &Patch::Merge(labels)).await.context("adopting it")?;
        let lost = json!({ "metadata": { "labels": { "gitpod.io/networkpolicy": null } } });
        for name in ["old", scene.name.as_str()] {
            denied(own.patch(name, &params, &Patch::Merge(&lost)).await, "leaving the network policy")?;
        }
        // Kubernetes itself allows only a few changes of a pod's spec.
        let container = scene.container()?["name"].clone();
        let image = json!({ "spec": { "containers": [{ "name": container, "image": "other:1" }] } });
        let strategic = Patch::Strategic(image);
        denied(own.patch("old", &params, &strategic).await, "changing what is forbidden")?;
        own.patch(&scene.name, &params, &strategic).await.context("changing what is allowed")?;

        // Ephemeral containers, after somebody granted the right to add them.
        grant(&scene, &admin).await?;
        let debug =
            |container: Value| Patch::Strategic(json!({ "spec": { "ephemeralContainers": [container] } }));
        let mut container = scene.container()?;
        container["name"] = json!("debug");
        for key in ["ports", "readinessProbe", "livenessProbe", "lifecycle", "resources"] {
            container.as_object_mut().context("no container")?.remove(key);
        }
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let plain = debug(container.clone());
        until("the right to be there", async || {
            own.patch_ephemeral_containers(&scene.name, &dry, &plain).await?;
            Ok(())
        })
        .await?;
        for (path, value) in forbidden_in_a_container() {
            if path.starts_with("/securityContext") {
                let evil = debug(put(&container, path, &value)?);
                let answer = own.patch_ephemeral_containers(&scene.name, &dry, &evil).await;
                denied(answer, &format!("ephemeral: {path}: {value}"))?;
            }
        }
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        own.patch("old", &params, &free).await.context("taking the finalizer off")?;
        Ok(())
    })
}

#[test]
fn a_namespace_with_the_pod_policy_is_deleted_with_its_pods() -> Result<()> {
    story("pod-deletion", 0, &[], async |story| {
        let cluster = story.cluster("us-1")?;
        let pod = json!({ "metadata": { "name": "p" }, "spec": {
            "hostPID": true, "serviceAccountName": "workspace",
            "containers": [{ "name": "c", "image": "i" }],
        } });
        let client = cluster.client();
        pods(&client, &story.namespace).create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        let namespaces: Api<Namespace> = Api::all(client);
        namespaces.delete(&story.namespace, &DeleteParams::default()).await?;
        until("the namespace to be gone", async || {
            ensure!(namespaces.get_opt(&story.namespace).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    })
}

/// Doctor tries a pod of each class and type, which covers every shape that the manager creates.
#[test]
fn doctor_tries_a_pod_of_each_class_with_its_templates_and_one_that_must_be_refused() -> Result<()> {
    story("pod-doctor", 0, &[], async |story| {
        let folder = story.installation.dir().join("templates");
        fs::create_dir_all(&folder)?;
        let write = |name: &str, pod: Value| -> Result<String> {
            let path = folder.join(name);
            fs::write(&path, pod.to_string())?;
            Ok(path.to_string_lossy().into_owned())
        };
        let harmless = write(
            "harmless.json",
            json!({
                "metadata": { "annotations": { "example.com/a": "b" }, "labels": { "team": "x" } },
                "spec": {
                    "nodeSelector": { "pool": "x" },
                    "tolerations": [{ "key": "gpu", "operator": "Exists" }],
                    "containers": [{ "name": "workspace", "env": [{ "name": "A", "value": "b" }],
                        "livenessProbe": { "tcpSocket": { "port": 80 } } }],
                },
            }),
        )?;
        let capable = write(
            "capable.json",
            json!({ "spec": { "containers": [{ "name": "workspace",
            "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } } }] } }),
        )?;
        let class = |templates: Value| {
            json!({
                "container": { "requests": { "cpu": "100m", "memory": "128Mi" },
                    "limits": { "cpu": { "burst": "2" }, "memory": "2Gi", "storage": "5Gi" } },
                "templates": templates,
            })
        };
        story.installation.overrides = json!({ "manager": {
            "templateFolder": folder, "enableCustomSSLCertificate": true, "registryFacadeHost": "reg.example.com", "seccompProfile": "w.json",
            "workspaceClass": {
                "plain": class(json!({})),
                "both": class(json!({ "defaultPath": harmless, "prebuildPath": harmless })),
            },
        } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        ensure!(check(story, &["eu-1"]).await?.0 == "OK", "{:?}", check(story, &["eu-1"]).await?);

        // A template that needs more is found before a workspace fails.
        let file = story.installation.cluster_file("eu-1", "europe", &story.kubeconfigs["eu-1"])?;
        let mut cluster: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        cluster["namespaces"][0]["classes"] = json!({ "capable": class(json!({ "regularPath": capable })) });
        let path = story.installation.dir().join("capable.yaml");
        fs::write(&path, cluster.to_string())?;
        let args = ["-f", &*path.to_string_lossy()].map(str::to_owned);
        let args = args.each_ref().map(String::as_str);
        let (outcome, detail) = check(story, &args).await?;
        ensure!(
            outcome == "FAILED" && detail.contains("Regular pods of class capable"),
            "{outcome}: {detail}"
        );
        ensure!(detail.contains("capabilities") && !detail.contains("Prebuild"), "{detail}");
        let namespaces: Api<Namespace> = Api::all(story.cluster("eu-1")?.client());
        let allow = json!({ "metadata": { "annotations": {
            "spaceport.dev/pod-policy-allow": "capability:NET_ADMIN" } } });
        namespaces.patch(&story.namespace, &PatchParams::default(), &Patch::Merge(allow)).await?;
        until("the annotation to count", async || {
            let (outcome, detail) = check(story, &args).await?;
            ensure!(outcome == "OK", "{outcome}: {detail}");
            Ok(())
        })
        .await?;

        // A login of another name, with its own rights and the fence off, is unknown to the policy.
        let own = story.cluster("eu-1")?.user_kubeconfig("own-login", &["system:masters"])?;
        let file = story.installation.cluster_file("own", "europe", &own)?;
        let mut unfenced: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        unfenced["fence"] = json!("off");
        fs::write(&path, unfenced.to_string())?;
        let (outcome, detail) = check(story, &args).await?;
        ensure!(outcome == "WARNING" && detail.contains("the login may make any pod"), "{outcome}: {detail}");
        let users =
            json!({ "metadata": { "annotations": { "spaceport.dev/pod-policy-users": "own-login" } } });
        namespaces.patch(&story.namespace, &PatchParams::default(), &Patch::Merge(users)).await?;
        until("the annotation to count", async || {
            let (outcome, detail) = check(story, &args).await?;
            ensure!(outcome == "OK", "{outcome}: {detail}");
            Ok(())
        })
        .await
    })
}

#[test]
fn annotations_of_a_client_stay_on_the_workspace_unless_the_configuration_names_them() -> Result<()> {
    story("pod-annotations", 0, &[], async |story| {
        story.installation.overrides =
            json!({ "manager": { "podAnnotations": ["e2e.spaceport.dev/*", "example.com/team"] } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        let mut asked = request("ws", &[]);
        let sent = [
            ("example.com/team", "x"),
            ("example.com/other", "x"),
            ("k8s.v1.cni.cncf.io/networks", "host-net"),
            ("cni.projectcalico.org/ipAddrs", "[\"10.0.0.1\"]"),
            ("prometheus.io/scrape", "false"),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", "true"),
        ];
        for (key, value) in sent {
            asked = annotated(asked, key, value);
        }
        let status = run(&mut client, asked).await?;
        let shown = status.metadata.context("no metadata")?.annotations;
        ensure!(sent.iter().all(|(key, value)| shown.get(*key).is_some_and(|is| is == value)), "{shown:?}");
        let pod = pods(&story.cluster("eu-1")?.client(), &story.namespace).get("ws-ws").await?;
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let keys: Vec<&str> =
            annotations.keys().map(String::as_str).filter(|key| !key.contains("apparmor")).collect();
        ensure!(
            keys == [
                "cluster-autoscaler.kubernetes.io/safe-to-evict",
                "example.com/team",
                "gitpod.io/cpuBurstLimit",
                "gitpod.io/cpuMinLimit",
                "prometheus.io/path",
                "prometheus.io/port",
                "prometheus.io/scrape",
            ],
            "{annotations:?}"
        );
        ensure!(annotations["prometheus.io/scrape"] == "true", "{annotations:?}");
        for key in ["gitpod.io/cpuBurstLimit", "gitpod.io/psi", "gitpod.io/netConnLimitPerMinute"] {
            let answer = client.start_workspace(annotated(request("no", &[]), key, "64")).await;
            let refusal = answer.err().with_context(|| format!("{key} was taken"))?;
            ensure!(
                refusal.code() == tonic::Code::InvalidArgument && refusal.message().contains("annotations"),
                "{refusal}"
            );
        }
        Ok(())
    })
}

/// A running workspace, and user `spaceport` in the current term.
struct Scene<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    /// User `spaceport`.
    own: Client,
    /// Name of the workspace's pod.
    name: String,
    /// That pod as the manager wrote it, under another name.
    pod: Value,
}

impl<'a> Scene<'a> {
    async fn open(story: &'a Story) -> Result<Self> {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let cluster = story.cluster("eu-1")?;
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> =
            Api::namespaced(cluster.client(), &story.namespace);
        let epoch = maps.get(FENCE).await?.data.and_then(|mut data| data.remove("epoch"));
        let own = as_spaceport(cluster, epoch.as_deref()).await?;
        let made = pods(&cluster.client(), &story.namespace).get("ws-ws").await?;
        let mut pod = json!({ "metadata": { "name": "ws-copy", "labels": made.metadata.labels,
            "annotations": made.metadata.annotations }, "spec": made.spec });
        for key in ["nodeName", "priority", "preemptionPolicy"] {
            pod["spec"].as_object_mut().context("no spec")?.remove(key);
        }
        let scene = Self { cluster, namespace: &story.namespace, own, name: "ws-ws".to_owned(), pod };
        // A policy takes effect some time after its creation.
        let evil = put(&scene.pod, "/spec/hostPID", &json!(true))?;
        until("the policy to be in force", async || scene.refuses(&evil, "hostPID").await).await?;
        Ok(scene)
    }

    fn container(&self) -> Result<Value> {
        self.pod.pointer("/spec/containers/0").cloned().context("no container")
    }

    async fn accepts(&self, pod: &Value) -> kube::Result<()> {
        create(&self.own, self.namespace, pod).await
    }

    async fn refuses(&self, pod: &Value, what: &str) -> Result<()> {
        denied(create(&self.own, self.namespace, pod).await, what)
    }
}

fn pods(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

/// Creates a pod as a dry run, with fields of any Kubernetes version.
async fn create(client: &Client, namespace: &str, pod: &Value) -> kube::Result<()> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    let mut pod = pod.clone();
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    let object = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
    api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await.map(drop)
}

/// Asserts a rejection by the pod policy, or by the apiserver's own rules for pods.
fn denied<T: std::fmt::Debug>(answer: kube::Result<T>, what: &str) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status))
            if status.message.contains("ValidatingAdmissionPolicy 'spaceport-pods'") =>
        {
            ensure!(status.code == 403, "{what}: {status:?}");
            Ok(())
        }
        Err(kube::Error::Api(status)) if OF_KUBERNETES.iter().any(|rule| status.message.contains(rule)) => {
            Ok(())
        }
        other => bail!("{what}: {other:?}"),
    }
}

/// Sets a value at a JSON pointer whose last part may be new; `-` appends, and `null` removes.
fn put(object: &Value, path: &str, value: &Value) -> Result<Value> {
    let mut object = object.clone();
    let (folder, key) = path.rsplit_once('/').context("no path")?;
    let key = key.replace("~1", "/");
    let mut at = &mut object;
    for part in folder.split('/').filter(|part| !part.is_empty()) {
        at = match part.parse::<usize>() {
            Ok(index) => at.get_mut(index).with_context(|| format!("{path}: no element"))?,
            Err(_) => &mut at[part],
        };
    }
    match at {
        Value::Array(list) => list.push(value.clone()),
        at if value.is_null() => drop(at.as_object_mut().and_then(|map| map.remove(&key))),
        at => at[key] = value.clone(),
    }
    Ok(object)
}

/// A client with all rights, under another user's name.
async fn acting_as(cluster: &Cluster, user: &str) -> Result<Client> {
    let read = Kubeconfig::read_from(cluster.kubeconfig()).context("cannot read the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    for (name, value) in [("impersonate-user", user), ("impersonate-group", "system:masters")] {
        config.headers.push((HeaderName::from_static(name), HeaderValue::from_str(value)?));
    }
    Client::try_from(config).context("cannot make a client")
}

async fn annotate(scene: &Scene<'_>, key: &str, value: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(scene.cluster.client());
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    namespaces.patch(scene.namespace, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Allows user `spaceport` to add ephemeral containers, which its role does not.
async fn grant(scene: &Scene<'_>, admin: &Client) -> Result<()> {
    use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
    let role = json!({ "metadata": { "name": "debug" }, "rules": [
        { "apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["get", "patch", "update"] },
    ] });
    let binding = json!({ "metadata": { "name": "debug" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "debug" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "spaceport" }] });
    let params = PostParams::default();
    Api::<Role>::namespaced(admin.clone(), scene.namespace)
        .create(&params, &serde_json::from_value(role)?)
        .await?;
    let bindings = Api::<RoleBinding>::namespaced(admin.clone(), scene.namespace);
    bindings.create(&params, &serde_json::from_value(binding)?).await?;
    Ok(())
}

/// Outcome and detail of doctor's check of the pod policy.
async fn check(story: &Story, args: &[&str]) -> Result<(String, String)> {
    let all: Vec<&str> =
        ["cluster", "doctor", "-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let output = story.cli(&all).await?;
    let checks: Vec<Value> = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    let check = checks.iter().find(|check| check["name"] == "pod-policy").context("no such check")?;
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    Ok((text("outcome"), text("detail")))
}
