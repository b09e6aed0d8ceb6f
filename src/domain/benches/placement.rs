//! Benchmark of placement alone: 10, 100 and 1,000 clusters with 100,000 workspaces.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "names of this file are valid")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spaceport_domain::cluster::Capacity;
use spaceport_domain::health::Health;
use spaceport_domain::names::{ClassId, ClusterName, Region};
use spaceport_domain::placement::capacity::Available;
use spaceport_domain::placement::{
    AvailableByKind, Candidate, CandidateNamespace, Offer, PlacementRequest, Target, place,
};

const PLACED: usize = 100_000;
const REGIONS: usize = 5;

fn candidate(number: usize, clusters: usize) -> Arc<Candidate> {
    let name: ClusterName = format!("cluster-{number}").parse().unwrap();
    let region: Region = format!("region-{}", number % REGIONS).parse().unwrap();
    // Uneven, so that the choice matters.
    let placed = PLACED / clusters + number % 7;
    let offers = ["standard", "large"].map(|class| {
        let class: ClassId = class.parse().unwrap();
        let target = Target {
            cluster: name.clone(),
            region: region.clone(),
            namespace: "workspaces".parse().unwrap(),
            class: class.clone(),
        };
        let room = Available::Counted { left: 1000, of: 1000 + placed as u64, shortage: None };
        let rooms = AvailableByKind([room.clone(), room.clone(), room]);
        (class, Offer { target: Arc::new(target), rooms })
    });
    Arc::new(Candidate {
        name,
        region,
        labels: BTreeMap::new(),
        weight: 50,
        capacity: Capacity::default(),
        cordoned: false,
        draining: false,
        health: Health::Available,
        barred: None,
        constraints: Vec::new(),
        namespaces: vec![CandidateNamespace {
            name: "workspaces".parse().unwrap(),
            offers: BTreeMap::from(offers),
            preferred_class: Some("standard".parse().unwrap()),
            maintenance: false,
            closed: None,
            last_choice: None,
        }],
        placed,
    })
}

fn placement(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement");
    for clusters in [10, 100, 1000] {
        let candidates: Vec<_> = (0..clusters).map(|number| candidate(number, clusters)).collect();
        let request = PlacementRequest {
            regions: vec!["region-3".parse().unwrap(), "region-1".parse().unwrap()],
            seed: "workspace".to_owned(),
            ..PlacementRequest::default()
        };
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::from_parameter(clusters), &candidates, |bencher, candidates| {
            bencher.iter(|| place(black_box(&request), black_box(candidates)));
        });
    }
    group.finish();
}

criterion_group!(benches, placement);
criterion_main!(benches);
