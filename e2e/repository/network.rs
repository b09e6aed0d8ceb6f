//! Evaluates `clusters/member/networkpolicy.yaml`, because no node here enforces policies.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use crate::sources::root;

type Labels = BTreeMap<String, String>;

/// The other side of a connection.
enum Peer {
    /// Outside the cluster, or a node.
    Address(IpAddr),
    /// A pod of the workspace namespace.
    Neighbour(Labels),
    /// A pod of a namespace with labels.
    Pod { namespace: Labels, labels: Labels },
}

struct Policies(Vec<NetworkPolicy>);

impl Policies {
    fn read() -> Result<Self> {
        let text = fs::read_to_string(root().join("clusters/member/networkpolicy.yaml"))?;
        Ok(Self(serde_saphyr::from_multiple(&text).context("not YAML of network policies")?))
    }

    /// The policies that select a pod and apply to a direction.
    fn concerned<'a>(
        &'a self,
        pod: &'a Labels,
        direction: &'a str,
    ) -> impl Iterator<Item = &'a NetworkPolicy> {
        self.0.iter().filter(move |policy| {
            let spec = policy.spec.as_ref();
            spec.is_some_and(|spec| {
                spec.policy_types.iter().flatten().any(|kind| kind == direction)
                    && spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, pod))
            })
        })
    }

    /// Whether a pod with these labels can connect to a peer.
    fn leave(&self, pod: &Labels, to: &Peer, port: u16, protocol: &str) -> bool {
        let mut policies = self.concerned(pod, "Egress").peekable();
        policies.peek().is_none()
            || policies.any(|policy| {
                policy
                    .spec
                    .iter()
                    .flat_map(|spec| spec.egress.iter().flatten())
                    .any(|rule| meets(rule.to.as_deref(), to) && opens(rule.ports.as_deref(), port, protocol))
            })
    }

    /// Whether a peer can connect to a pod with these labels.
    fn enter(&self, pod: &Labels, from: &Peer, port: u16) -> bool {
        let mut policies = self.concerned(pod, "Ingress").peekable();
        policies.peek().is_none()
            || policies.any(|policy| {
                policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten()).any(|rule| {
                    meets(rule.from.as_deref(), from) && opens(rule.ports.as_deref(), port, "TCP")
                })
            })
    }
}

/// No list of peers or ports means all of them.
fn meets(peers: Option<&[NetworkPolicyPeer]>, other: &Peer) -> bool {
    peers.is_none_or(|peers| peers.is_empty() || peers.iter().any(|peer| is_met(peer, other)))
}

fn is_met(peer: &NetworkPolicyPeer, other: &Peer) -> bool {
    let of_pod = |labels| peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, labels));
    match (&peer.ip_block, other) {
        (Some(block), Peer::Address(address)) => is_in_block(block, *address),
        (Some(_), _) | (None, Peer::Address(_)) => false,
        (None, Peer::Neighbour(labels)) => peer.namespace_selector.is_none() && of_pod(labels),
        (None, Peer::Pod { namespace, labels }) => {
            peer.namespace_selector.as_ref().is_some_and(|selector| selects(selector, namespace))
                && of_pod(labels)
        }
    }
}

fn opens(ports: Option<&[NetworkPolicyPort]>, port: u16, protocol: &str) -> bool {
    let is_open = |open: &NetworkPolicyPort| {
        open.protocol.as_deref().unwrap_or("TCP") == protocol
            && open.port.as_ref().is_none_or(|number| *number == IntOrString::Int(i32::from(port)))
    };
    ports.is_none_or(|ports| ports.is_empty() || ports.iter().any(is_open))
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key).is_some_and(|is| is == value));
    let expressed = selector.match_expressions.iter().flatten().all(|expression| {
        assert_eq!(expression.operator, "In", "the evaluator knows no other operator");
        let values = expression.values.as_deref().unwrap_or_default();
        labels.get(&expression.key).is_some_and(|is| values.contains(is))
    });
    equal && expressed
}

fn is_in_block(block: &IPBlock, address: IpAddr) -> bool {
    let excepted = block.except.iter().flatten().any(|range| is_in(range, address));
    is_in(&block.cidr, address) && !excepted
}

/// Whether an address is in a range such as `10.0.0.0/8`; false for another address family.
#[expect(clippy::unwrap_used, reason = "a range that is none fails the test")]
fn is_in(range: &str, address: IpAddr) -> bool {
    let (base, length) = range.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((base, width), (address, of)) = (bits(base.parse().unwrap()), bits(address));
    let shift = width - length;
    let shifted = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
    assert_eq!(shifted(base).checked_shl(shift).unwrap_or(0), base, "{range} has bits below its length");
    width == of && shifted(base) == shifted(address)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The labels of a workspace's pod; `src/controller/pod/tests.rs` checks that the policy selects them.
fn workspace() -> Labels {
    labels(&[("component", "workspace"), ("gitpod.io/networkpolicy", "default")])
}

/// Ranges that no workspace may reach: private, link-local, loopback, multicast, reserved, and IPv4 within IPv6.
const CLOSED: [&str; 24] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:2::/48",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Whether a workspace can reach an address by any port but that of DNS.
fn reaches(policies: &Policies, address: IpAddr) -> bool {
    [("TCP", 443), ("TCP", 80), ("UDP", 443), ("TCP", 10_250), ("TCP", 6443)]
        .into_iter()
        .any(|(protocol, port)| policies.leave(&workspace(), &Peer::Address(address), port, protocol))
}

#[test]
fn workspaces_reach_public_addresses_of_both_families_and_nothing_private() -> Result<()> {
    let policies = Policies::read()?;
    for (address, open) in [
        ("1.1.1.1", true),
        ("8.8.8.8", true),
        ("9.255.255.255", true),
        ("11.0.0.0", true),
        ("100.63.255.255", true),
        ("100.128.0.0", true),
        ("140.82.121.4", true),
        ("172.15.255.255", true),
        ("172.32.0.0", true),
        ("192.0.1.0", true),
        ("192.167.255.255", true),
        ("192.169.0.0", true),
        ("198.20.0.0", true),
        ("223.255.255.255", true),
        ("2001:4860:4860::8888", true),
        ("2606:4700:4700::1111", true),
        ("2a00:1450:4001::1", true),
        ("2620:fe::fe", true),
        ("169.254.169.254", false),
        ("169.254.170.2", false),
        ("169.254.0.23", false),
        ("100.100.100.200", false),
        ("192.0.0.192", false),
        ("168.63.129.16", false),
        ("10.96.0.1", false),
        ("172.31.255.255", false),
        ("192.168.1.1", false),
        ("127.0.0.1", false),
        ("0.0.0.0", false),
        ("255.255.255.255", false),
        ("fd00:ec2::254", false),
        ("fd20:ce::254", false),
        ("fe80::a9fe:a9fe", false),
        ("::1", false),
        ("::", false),
        ("::ffff:169.254.169.254", false),
        ("::10.0.0.1", false),
        ("64:ff9b::a9fe:a9fe", false),
        ("2002:a9fe:a9fe::1", false),
        ("ff02::1", false),
    ] {
        ensure!(reaches(&policies, address.parse()?) == open, "{address} must be open: {open}");
    }
    Ok(())
}

#[test]
fn workspaces_reach_dns_and_the_proxy_wherever_these_are() -> Result<()> {
    let policies = Policies::read()?;
    let kube_system = labels(&[("kubernetes.io/metadata.name", "kube-system")]);
    let system = labels(&[("spaceport.dev/system", "true")]);
    let pod = |namespace: &Labels, pairs: &[(&str, &str)]| Peer::Pod {
        namespace: namespace.clone(),
        labels: labels(pairs),
    };
    let dns = || pod(&kube_system, &[("k8s-app", "kube-dns")]);
    let cache = || Peer::Address(Ipv4Addr::new(169, 254, 20, 10).into());
    let proxy = [("component", "ws-proxy")];
    for (to, port, protocol, open) in [
        (dns(), 53, "UDP", true),
        (dns(), 53, "TCP", true),
        (dns(), 9153, "TCP", false),
        (cache(), 53, "UDP", true),
        (cache(), 80, "TCP", false),
        (pod(&kube_system, &[("component", "etcd")]), 2379, "TCP", false),
        (pod(&system, &proxy), 8080, "TCP", true),
        (Peer::Neighbour(labels(&proxy)), 8080, "TCP", true),
        (pod(&labels(&[]), &proxy), 8080, "TCP", false),
        (pod(&system, &[("component", "ws-daemon")]), 8080, "TCP", false),
        (Peer::Neighbour(workspace()), 22, "TCP", false),
        (pod(&labels(&[]), &[]), 80, "TCP", false),
    ] {
        ensure!(policies.leave(&workspace(), &to, port, protocol) == open, "port {port} must be {open}");
    }
    Ok(())
}

#[test]
fn nobody_but_the_proxy_node_agents_and_prometheus_reaches_a_pod_of_the_namespace() -> Result<()> {
    let policies = Policies::read()?;
    let system = labels(&[("spaceport.dev/system", "true")]);
    let component = |name| labels(&[("component", name)]);
    let prometheus = labels(&[("app.kubernetes.io/name", "prometheus")]);
    let in_system = |labels: &Labels| Peer::Pod { namespace: system.clone(), labels: labels.clone() };
    let elsewhere = |labels: &Labels| Peer::Pod { namespace: Labels::new(), labels: labels.clone() };
    for (from, port, open) in [
        (in_system(&component("ws-proxy")), 3000, true),
        (in_system(&component("ws-daemon")), 22_999, true),
        (in_system(&component("agent-smith")), 22_999, true),
        (Peer::Neighbour(component("ws-proxy")), 3000, true),
        (in_system(&prometheus), 23_000, true),
        (in_system(&prometheus), 22_999, false),
        (in_system(&component("other")), 3000, false),
        (elsewhere(&component("ws-proxy")), 3000, false),
        (elsewhere(&prometheus), 23_000, false),
        (Peer::Neighbour(workspace()), 22_999, false),
        (Peer::Neighbour(Labels::new()), 3000, false),
        (Peer::Address(Ipv4Addr::new(10, 0, 0, 1).into()), 3000, false),
        (Peer::Address(Ipv4Addr::new(8, 8, 8, 8).into()), 3000, false),
        (Peer::Address(Ipv6Addr::LOCALHOST.into()), 3000, false),
    ] {
        ensure!(policies.enter(&workspace(), &from, port) == open, "port {port} must be {open}");
        // No peer reaches a pod without the labels of a workspace.
        ensure!(!policies.enter(&Labels::new(), &from, port), "port {port} of a pod without labels is open");
    }
    Ok(())
}

#[expect(clippy::unwrap_used, reason = "a range that is none fails the test")]
fn within(range: &'static str) -> impl Strategy<Value = IpAddr> {
    let (base, length) = range.split_once('/').unwrap();
    let (base, length): (IpAddr, u32) = (base.parse().unwrap(), length.parse().unwrap());
    any::<u128>().prop_map(move |noise| match base {
        IpAddr::V4(base) => {
            let mask = u32::MAX.checked_shr(length).unwrap_or(0);
            #[expect(clippy::cast_possible_truncation, reason = "noise is cut on purpose")]
            let noise = noise as u32;
            Ipv4Addr::from_bits(base.to_bits() | (noise & mask)).into()
        }
        IpAddr::V6(base) => {
            let mask = u128::MAX.checked_shr(length).unwrap_or(0);
            Ipv6Addr::from_bits(base.to_bits() | (noise & mask)).into()
        }
    })
}

proptest! {
    #[test]
    fn no_address_of_a_closed_range_is_reached(
        address in proptest::sample::select(&CLOSED[..]).prop_flat_map(within)
    ) {
        prop_assert!(!reaches(&Policies::read().unwrap(), address), "{address}");
    }

    #[test]
    fn every_other_address_is_reached(
        address in prop_oneof![within("0.0.0.0/0"), within("2000::/3")]
    ) {
        let closed = CLOSED.iter().any(|range| is_in(range, address));
        prop_assert_eq!(reaches(&Policies::read().unwrap(), address), !closed, "{}", address);
    }
}
