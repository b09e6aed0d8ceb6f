use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_000_000, 0);

fn at(seconds: i64) -> Timestamp {
    add(NOW, SignedDuration::from_secs(seconds))
}

fn options() -> Options {
    Options {
        idle: Some(Duration::from_mins(10)),
        deadline: Some(Duration::from_hours(1)),
        ..Options::default()
    }
}

fn drain() -> Drain {
    Drain::begin("eu-1".parse().unwrap(), options(), 1, NOW)
}

/// A running workspace with activity just now.
fn resident(id: &str) -> Resident {
    Resident {
        id: id.parse().unwrap(),
        kind: Kind::Regular,
        phase: Phase::Running,
        idle_since: Some(NOW),
        closed: false,
        stop_asked: false,
    }
}

fn idle(id: &str) -> Resident {
    Resident { idle_since: Some(at(-3600)), ..resident(id) }
}

fn id(text: &str) -> WorkspaceId {
    text.parse().unwrap()
}

fn step(drain: &Drain, residents: &[Resident], now: Timestamp) -> Step {
    drain.step(residents, &[], |_| true, now)
}

#[test]
fn a_busy_workspace_is_left_alone_until_the_deadline_and_then_stopped() {
    let busy = [resident("busy")];
    let first = step(&drain(), &busy, NOW);
    assert_eq!((first.stop.len(), first.wake), (0, Some(at(600))));
    let still = [Resident { idle_since: Some(at(3599)), ..resident("busy") }];
    assert!(step(&drain(), &still, at(3599)).stop.is_empty());
    assert_eq!(step(&drain(), &still, at(3600)).stop, [id("busy")]);
}

#[test]
fn an_idle_workspace_is_stopped_and_one_without_a_limit_is_not() {
    assert_eq!(step(&drain(), &[idle("idle")], NOW).stop, [id("idle")]);
    let patient = Drain::begin("eu-1".parse().unwrap(), Options::default(), 1, NOW);
    let waits = step(&patient, &[idle("idle")], NOW);
    assert_eq!((waits.stop.len(), waits.wake), (0, None));
}

#[test]
fn a_closed_workspace_counts_as_idle_after_a_minute() {
    let closed = [Resident { closed: true, ..resident("closed") }];
    assert_eq!(step(&drain(), &closed, NOW).wake, Some(at(60)));
    assert_eq!(step(&drain(), &closed, at(60)).stop, [id("closed")]);
}

#[test]
fn headless_workspaces_run_to_their_end_and_keep_the_drain_open() {
    for kind in [Kind::Prebuild, Kind::ImageBuild] {
        let task = [Resident { kind, ..idle("task") }];
        let next = step(&drain(), &task, at(7200));
        assert!(next.stop.is_empty() && next.drain.stage == Stage::Draining);
        assert_eq!(drain().fate(&task[0], true, at(7200)), Fate::Finishes);
    }
}

#[test]
fn stops_respect_rate_and_concurrency() {
    let all: Vec<Resident> = (0..5).map(|n| idle(&format!("ws-{n}"))).collect();
    let slow = Drain { options: Options { rate: 60, concurrent: 2, ..options() }, ..drain() };
    let first = step(&slow, &all, NOW);
    assert_eq!((first.drain.stopping.len(), first.wake), (1, Some(at(1))));
    let early = step(&first.drain, &all, NOW);
    assert_eq!((early.drain.stopping.len(), early.wake), (1, Some(at(1))));
    let second = step(&first.drain, &all, at(1));
    assert_eq!((second.drain.stopping.len(), second.wake), (2, None), "an end wakes it");
    assert_eq!(step(&second.drain, &all, at(60)).drain.stopping.len(), 2);
}

#[test]
fn a_recorded_stop_that_an_earlier_leader_did_not_request_is_requested() {
    let mut noted = drain().in_stage(Stage::Paused, NOW);
    noted.stopping.insert(id("ws"), NOW);
    assert_eq!(step(&noted, &[resident("ws")], NOW).stop, [id("ws")]);
    let asked = Resident { stop_asked: true, ..resident("ws") };
    assert!(step(&noted, &[asked], NOW).stop.is_empty());
}

#[test]
fn a_workspace_without_a_backup_keeps_the_drain_open_until_an_admin_accepts_it() {
    let failed = Outcome::Unsaved("the disk is full".to_owned());
    let mut under_way = drain();
    under_way.stopping.insert(id("ws"), NOW);
    let next = under_way.step(&[], &[(id("ws"), failed.clone())], |_| true, NOW).drain;
    assert_eq!((next.stage, next.held(), next.stopped), (Stage::Draining, 1, 1));
    let accepted = next.accept(&[id("ws")]).unwrap();
    assert_eq!(next.accept(&[id("other")]), Err(id("other")));
    let again = accepted.step(&[], &[(id("ws"), failed)], |_| true, NOW).drain;
    assert_eq!((again.stage, again.held()), (Stage::Drained, 0), "being told again changes nothing");
}

#[test]
fn many_failed_backups_pause_further_stops() {
    let failed = |n: usize| (id(&format!("failed-{n}")), Outcome::Unsaved("no storage".to_owned()));
    let most: Vec<_> = (0..UNSAVED_MOST).map(failed).collect();
    let next = drain().step(&[idle("ws")], &most, |_| true, NOW);
    assert!(next.stop.is_empty() && next.drain.stopping.is_empty());
    assert_eq!(drain().step(&[idle("ws")], &most[1..], |_| true, NOW).stop, [id("ws")]);
}

#[test]
fn workspaces_without_capacity_elsewhere_are_not_stopped_unless_that_is_accepted() {
    let none = drain().step(&[idle("ws")], &[], |_| false, NOW);
    assert!(none.stop.is_empty() && none.wake.is_some());
    assert_eq!(drain().fate(&idle("ws"), false, NOW), Fate::NoRoom);
    let accepting = Drain { options: Options { accept_no_room: true, ..options() }, ..drain() };
    assert_eq!(accepting.step(&[idle("ws")], &[], |_| false, NOW).stop, [id("ws")]);
}

#[test]
fn a_repeated_call_does_not_move_the_deadline_and_another_deadline_counts_from_now() {
    let later = drain().with_options(options(), at(60));
    assert_eq!(later, drain());
    let other = Options { deadline: Some(Duration::from_mins(5)), ..options() };
    assert_eq!(drain().with_options(other, at(60)).deadline_at, Some(at(360)));
}

#[test]
fn a_cancelled_drain_allows_new_workspaces_and_does_nothing() {
    let cancelled = drain().in_stage(Stage::Cancelled, at(1));
    assert!(!cancelled.keeps_away() && cancelled.ended_at == Some(at(1)));
    assert_eq!(
        step(&cancelled, &[idle("ws")], at(2)),
        Step { drain: cancelled.clone(), stop: Vec::new(), wake: None }
    );
}

#[test]
fn content_counts_as_safe_only_if_that_was_observed() {
    let ready = Conditions { content_ready: true, ..Conditions::default() };
    assert!(matches!(Outcome::of(Kind::Regular, &ready), Outcome::Unsaved(_)));
    assert_eq!(Outcome::of(Kind::ImageBuild, &ready), Outcome::Over);
    assert_eq!(Outcome::of(Kind::Regular, &Conditions::default()), Outcome::Over, "there was no content");
    let saved = Conditions { final_backup_complete: true, ..ready.clone() };
    assert_eq!(Outcome::of(Kind::Regular, &saved), Outcome::Over);
    assert_eq!(Outcome::of(Kind::Regular, &Conditions { aborted: true, ..ready.clone() }), Outcome::Over);
    let failed = Conditions { backup_failed: Some("why".to_owned()), ..ready };
    assert_eq!(Outcome::of(Kind::Regular, &failed), Outcome::Unsaved("the backup failed: why".to_owned()));
}

#[test]
fn the_estimate_is_the_deadline_plus_one_interval_for_each_workspace() {
    let drain = Drain { options: Options { rate: 60, ..options() }, ..drain() };
    let fates = [Fate::LeftAlone(Some(at(100))), Fate::Due, Fate::Stopping];
    assert_eq!(estimate(&drain, &fates, NOW), Some(at(102)));
    assert_eq!(estimate(&drain, &[Fate::Finishes], NOW), None);
}

#[test]
fn options_out_of_bounds_name_their_field() {
    let field = |options: Options| options.validate().unwrap_err().0;
    assert_eq!(options().validate(), Ok(()));
    assert_eq!(field(Options { rate: 0, ..options() }), "rate_per_minute");
    assert_eq!(field(Options { concurrent: MAX_CONCURRENT + 1, ..options() }), "max_concurrent");
    assert_eq!(field(Options { idle: Some(Duration::ZERO), ..options() }), "idle");
}

fn residents() -> impl Strategy<Value = Vec<Resident>> {
    let kind =
        prop_oneof![Just(Kind::Regular), Just(Kind::Regular), Just(Kind::Prebuild), Just(Kind::ImageBuild)];
    let phase =
        prop_oneof![Just(Phase::Pending), Just(Phase::Running), Just(Phase::Running), Just(Phase::Stopping)];
    let one = (kind, phase, 0..5000i64, any::<bool>());
    prop::collection::vec(one, 0..30).prop_map(|all| {
        let resident = |(n, (kind, phase, idle, closed)): (usize, (Kind, Phase, i64, bool))| Resident {
            id: format!("ws-{n}").parse().unwrap(),
            kind,
            phase,
            idle_since: Some(at(-idle)),
            closed,
            stop_asked: phase == Phase::Stopping,
        };
        all.into_iter().enumerate().map(resident).collect()
    })
}

proptest! {
    /// Workspaces end some time after the stop request, in any order of ticks.
    #[test]
    fn a_drain_keeps_its_bounds_touches_nobody_too_early_and_ends(
        mut there in residents(),
        rate in 1..600u32,
        concurrent in 1..5u32,
        ticks in prop::collection::vec(1..90i64, 1..20),
    ) {
        let options = Options { rate, concurrent, ..options() };
        let mut drain = Drain { options, total: there.len(), ..drain() };
        let (mut now, mut asked) = (NOW, BTreeSet::new());
        let mut stops: Vec<Timestamp> = Vec::new();
        for round in 0..100_000 {
            prop_assert!(round < 99_999, "it does not end");
            let next = drain.step(&there, &[], |_| true, now);
            prop_assert!(next.drain.stopping.len() <= concurrent as usize);
            for id in next.drain.stopping.keys().filter(|id| !drain.stopping.contains_key(*id)) {
                let one = there.iter().find(|one| one.id == *id).unwrap();
                prop_assert!(one.kind == Kind::Regular && one.phase != Phase::Stopping);
                let idle = one.phase == Phase::Running && one.idle_since.unwrap() <= add(now, SignedDuration::from_secs(-60));
                prop_assert!(idle || now >= drain.deadline_at.unwrap());
                stops.push(now);
            }
            drain = next.drain;
            for id in next.stop {
                asked.insert(id.clone());
                there.iter_mut().filter(|one| one.id == id).for_each(|one| one.stop_asked = true);
            }
            if drain.stage == Stage::Drained {
                break;
            }
            // Stopping and headless workspaces end by themselves, one in each tick.
            let tick = ticks[round % ticks.len()];
            let over = there.iter().position(|one| one.stop_asked || one.kind.is_headless());
            if let Some(over) = over {
                let gone = there.remove(over);
                drain = drain.step(&there, &[(gone.id, Outcome::Over)], |_| true, now).drain;
            }
            now = add(now, SignedDuration::from_secs(tick));
        }
        prop_assert!(there.is_empty() && drain.stopping.is_empty());
        for pair in stops.windows(2) {
            prop_assert!(pair[1].duration_since(pair[0]) >= options.interval());
        }
        prop_assert_eq!(drain.stopped, asked.len());
    }
}

#[test]
fn only_a_workspace_that_the_drain_ends_needs_a_place_elsewhere() {
    let soon = Fate::LeftAlone(Some(Timestamp::UNIX_EPOCH));
    for displaced in [Fate::Due, Fate::NoRoom, Fate::LeftAlone(None), soon] {
        assert!(displaced.is_displaced(), "{displaced:?}");
    }
    assert!(!Fate::Finishes.is_displaced() && !Fate::Stopping.is_displaced());
}
