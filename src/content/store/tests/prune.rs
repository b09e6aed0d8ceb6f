use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const DAY: u64 = 24 * 3600;

fn at(days: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(days * DAY).unwrap()).unwrap()
}

fn id(sequence: u64) -> BackupId {
    BackupId { generation: 1, sequence }
}

#[test]
fn superseded_backups_go_by_count_and_age() {
    let heads: Vec<ListedHead> =
        (1..=6).map(|n| ListedHead { id: id(n), written_at: at(n), archive: Some(id(n.min(5))) }).collect();
    let archives: Vec<ListedArchive> =
        (1..=7).map(|n| ListedArchive { id: id(n), written_at: at(n) }).collect();
    let none = BTreeSet::new();
    let input = PruneInput {
        heads: &heads,
        archives: &archives,
        proven: id(6),
        kept_heads: &none,
        kept_archives: &none,
        policy: PrunePolicy { keep: 2, age: Duration::from_secs(DAY) },
        now: at(4),
    };
    let plan = PrunePlan::of(&input);
    assert_eq!((plan.heads, plan.archives), (vec![id(1), id(2), id(3)], vec![id(1), id(2), id(3)]));
    let kept = (BTreeSet::from([id(2)]), BTreeSet::from([id(1)]));
    let plan =
        PrunePlan::of(&PruneInput { kept_heads: &kept.0, kept_archives: &kept.1, now: at(100), ..input });
    assert_eq!((plan.heads, plan.archives), (vec![id(1), id(3), id(4)], vec![id(3), id(4)]));
    let older = PrunePlan::of(&PruneInput { proven: id(3), now: at(100), ..input });
    assert_eq!(older.heads, [id(1), id(2)], "what is newer than the proven head is not touched");
    let unknown = PrunePlan::of(&PruneInput { proven: id(9), now: at(100), ..input });
    assert_eq!(unknown, PrunePlan::default());
}

#[test]
fn a_head_that_cannot_be_read_stays_with_all_archives() {
    let mut heads: Vec<ListedHead> =
        (1..=6).map(|n| ListedHead { id: id(n), written_at: at(n), archive: Some(id(n)) }).collect();
    heads[1].archive = None;
    let archives: Vec<ListedArchive> =
        (1..=6).map(|n| ListedArchive { id: id(n), written_at: at(n) }).collect();
    let none = BTreeSet::new();
    let policy = PrunePolicy { keep: 1, age: Duration::ZERO };
    let (kept_heads, kept_archives, now, proven) = (&none, &none, at(100), id(6));
    let plan = PrunePlan::of(&PruneInput {
        heads: &heads,
        archives: &archives,
        proven,
        kept_heads,
        kept_archives,
        policy,
        now,
    });
    assert_eq!((plan.heads, plan.archives), (vec![id(1), id(3), id(4), id(5)], vec![]));
}

#[tokio::test]
async fn pruning_deletes_what_is_superseded_once_the_newest_head_is_proven() {
    let (store, _) = faulty();
    let keys = keys("jane", "ws-1");
    let mut proven = Vec::new();
    for n in 1..=5 {
        proven.push(back_up(&store, &keys, id(n), &content(500)).await);
    }
    // An archive whose backup never ended, and one that waits for its head.
    for archive in [BackupId::first(0), id(6)] {
        store.upload(&keys.archive(archive), b"x".as_slice(), UploadOptions::default()).await.unwrap();
    }
    let none = BTreeSet::new();
    let policy = PrunePolicy { keep: 2, age: Duration::ZERO };
    let now = Timestamp::now().checked_add(Duration::from_secs(5)).unwrap();
    let stale = store.prune(&keys, &proven[3], &none, &none, (policy, now)).await.unwrap();
    assert_eq!(stale, Pruned::default(), "a newer head is there and not proven");
    let pruned =
        store.prune(&keys, &proven[4], &none, &BTreeSet::from([id(1)]), (policy, now)).await.unwrap();
    assert_eq!(pruned.heads, [id(1), id(2), id(3)]);
    assert_eq!(pruned.archives, [BackupId::first(0), id(2), id(3)]);
    assert_eq!(store.list_heads(&keys).await.unwrap(), [id(4), id(5)]);
    for kept in [1, 4, 5, 6] {
        read(&store, &keys.archive(id(kept))).await;
    }
    let again = store.prune(&keys, &proven[4], &none, &BTreeSet::from([id(1)]), (policy, now)).await.unwrap();
    assert_eq!(again, Pruned::default());
}

proptest! {
    /// Whatever is listed: nothing that is named, new or unproven goes, and no remaining head loses its archive.
    #[test]
    fn pruning_never_takes_what_somebody_needs(
        named in proptest::collection::btree_map(0_u64..20, (0_u64..20, 0_u64..40, proptest::bool::weighted(0.95)), 0..15),
        archives in proptest::collection::btree_map(0_u64..20, 0_u64..40, 0..20),
        proven in 0_u64..20,
        kept_heads in proptest::collection::btree_set(0_u64..20, 0..4),
        kept_archives in proptest::collection::btree_set(0_u64..20, 0..4),
        (keep, age, now) in (0_u32..5, 0_u64..20, 0_u64..60),
    ) {
        let heads: Vec<ListedHead> = named.iter()
            .map(|(n, (archive, written, readable))| ListedHead {
                id: id(*n), written_at: at(*written), archive: readable.then(|| id(*archive)),
            })
            .collect();
        let listed: Vec<ListedArchive> =
            archives.iter().map(|(n, written)| ListedArchive { id: id(*n), written_at: at(*written) }).collect();
        let ids = |set: &BTreeSet<u64>| set.iter().map(|n| id(*n)).collect::<BTreeSet<_>>();
        let (kept_heads, kept_archives) = (ids(&kept_heads), ids(&kept_archives));
        let policy = PrunePolicy { keep, age: Duration::from_secs(age * DAY) };
        let plan = PrunePlan::of(&PruneInput {
            heads: &heads, archives: &listed, proven: id(proven),
            kept_heads: &kept_heads, kept_archives: &kept_archives, policy, now: at(now),
        });
        let gone: BTreeSet<BackupId> = plan.heads.iter().copied().collect();
        let dropped: BTreeSet<BackupId> = plan.archives.iter().copied().collect();
        let written: BTreeMap<BackupId, Timestamp> = heads.iter().map(|head| (head.id, head.written_at)).collect();
        for head in &gone {
            prop_assert!(*head < id(proven) && !kept_heads.contains(head));
            prop_assert!(written[head] + policy.age <= at(now));
            let newer = heads.iter().filter(|other| other.id > *head).count();
            prop_assert!(newer >= usize::try_from(keep.max(1)).unwrap());
        }
        for head in heads.iter().filter(|head| !gone.contains(&head.id)) {
            prop_assert!(head.archive.is_none_or(|archive| !dropped.contains(&archive)));
        }
        for archive in &dropped {
            prop_assert!(*archive < id(proven) && !kept_archives.contains(archive));
            prop_assert!(at(archives[&archive.sequence]) + policy.age <= at(now));
        }
        if !named.contains_key(&proven) {
            prop_assert!(plan == PrunePlan::default());
        }
    }
}
