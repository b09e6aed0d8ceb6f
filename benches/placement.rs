//! Decisions of placement alone: 10, 100 and 1,000 clusters with 100,000 workspaces on them.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "names of this file are valid")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spaceport::domain::health::Health;
use spaceport::domain::placement::{Candidate, CandidateNamespace, PlacementRequest, place};

const PLACED: usize = 100_000;
const REGIONS: usize = 5;

fn candidate(number: usize, clusters: usize) -> Candidate {
    Candidate {
        name: format!("cluster-{number}").parse().unwrap(),
        region: format!("region-{}", number % REGIONS).parse().unwrap(),
        labels: BTreeMap::new(),
        weight: 50,
        cordoned: false,
        health: Health::Available,
        constraints: Vec::new(),
        namespaces: vec![CandidateNamespace {
            name: "workspaces".parse().unwrap(),
            classes: BTreeSet::from(["standard".parse().unwrap(), "large".parse().unwrap()]),
            preferred_class: Some("standard".parse().unwrap()),
            maintenance: false,
        }],
        // Not even, so that there is something to choose.
        placed: PLACED / clusters + number % 7,
    }
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
