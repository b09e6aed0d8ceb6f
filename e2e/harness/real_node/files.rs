//! Configuration of a node's programs. The node has its own /var and /run, so default paths are its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::super::control_plane::kubeconfig;
use super::super::pki::Authority;
use super::Subnet;

/// Folder of the network plugins, where Debian has them.
pub(super) const CNI: &str = "/usr/lib/cni";
/// Socket of containerd, in the node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// A registry that every node can pull from, for `registryFacadeHost`. All others lead to the same one.
pub const REGISTRY: &str = "registry.spaceport.test";

/// The files, and what is written into them.
pub(super) struct Files<'a> {
    pub(super) dir: &'a Path,
    pub(super) name: &'a str,
    pub(super) subnet: &'a Subnet,
    pub(super) authority: &'a Authority,
    /// The apiserver, as the node reaches it.
    pub(super) api: String,
    pub(super) registry: SocketAddr,
    /// Merged into the kubelet's configuration.
    pub(super) kubelet: &'a Value,
}

impl Files<'_> {
    pub(super) fn write(&self) -> Result<()> {
        self.put("containerd.toml", &self.containerd())?;
        self.put("cni/10-bridge.conflist", &self.network().to_string())?;
        self.put("registries/_default/hosts.toml", &self.mirror())?;
        self.put("resolv.conf", "options timeout:1 attempts:1\n")?;
        let config = self.kubelet()?;
        self.put("kubelet.json", &config.to_string())?;
        let user = self.authority.client(&format!("system:node:{}", self.name), &["system:nodes"])?;
        let user = format!(
            "client-certificate: \"{}\", client-key: \"{}\"",
            user.cert.display(),
            user.key.display()
        );
        self.put("kubelet.kubeconfig", &kubeconfig(self.name, &self.api, self.authority.ca_pem(), &user))
    }

    /// An image that is pulled is looked up at the harness, whatever its host.
    fn mirror(&self) -> String {
        format!("[host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n", self.registry)
    }

    fn containerd(&self) -> String {
        let (cni, registries) = (self.path("cni"), self.path("registries"));
        // `restrict_oom_score_adj`: in some virtual machines even root may not lower it, and no sandbox would start.
        // `opt`: otherwise it makes /opt/containerd.
        format!(
            "version = 2\n\
             disabled_plugins = [\"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\"]\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"/var/lib/containerd/opt\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n  \
             sandbox_image = \"{REGISTRY}/pause:1\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"{CNI}\"\n  conf_dir = \"{}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"{}\"\n",
            cni.display(),
            registries.display(),
        )
    }

    fn network(&self) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "bridge",
            "plugins": [{
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "ranges": [[{ "subnet": self.subnet.pods() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        })
    }

    fn kubelet(&self) -> Result<Value> {
        let serving = self.authority.server_at(
            &format!("kubelet-{}", self.name),
            &[self.name.to_owned(), self.subnet.node().to_string()],
        )?;
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": { "enabled": false }, "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.authority.ca() },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": serving.cert, "tlsPrivateKeyFile": serving.key,
            "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
            "cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
            "failCgroupV1": false, "failSwapOn": false,
            // Nothing answers there: names are not found at once, and without an address the kubelet warns of each pod.
            "clusterDNS": [self.subnet.host()], "clusterDomain": "cluster.local",
            "resolvConf": self.path("resolv.conf"),
            // The defaults lie outside of /var, and this machine's disk is not the node's.
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "evictionHard": {
                "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
                "imagefs.available": "0%", "imagefs.inodesFree": "0%", "pid.available": "0%",
            },
            "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": false, "nodeStatusUpdateFrequency": "2s",
        });
        if let (Value::Object(config), Value::Object(more)) = (&mut config, self.kubelet) {
            config.extend(more.clone());
        }
        Ok(config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        let folder = path.parent().context("a file without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
