use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn holding(text: &str) -> ConfigMap {
    ConfigMap { data: Some([(KEY.to_owned(), text.to_owned())].into()), ..ConfigMap::default() }
}

const ON: &str = r#"{"enabledUntil": "2026-01-01T12:00:00Z"}"#;

#[test]
fn content_is_a_time_null_or_absent() {
    assert_eq!(parse(ON), Ok(Some(at("2026-01-01T12:00:00Z"))));
    assert_eq!(parse(r#"{"enabledUntil": "2026-01-01T13:00:00+01:00"}"#), parse(ON));
    for off in ["{}", r#"{"enabledUntil": null}"#, r#"{"enabledUntil": "", "other": 1}"#] {
        assert_eq!(parse(off), Ok(None), "{off}");
    }
    for bad in ["", "on", "[]", r#"{"enabledUntil": 5}"#, r#"{"enabledUntil": "tomorrow"}"#] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(parse(&render(Some(at("2026-01-01T12:00:00Z")))), parse(ON));
    assert_eq!(parse(&render(None)), Ok(None));
}

#[test]
fn it_is_on_before_its_end_and_off_from_then_on() {
    let maintenance = Maintenance::new();
    maintenance.take(Some(&holding(ON)), at("2026-01-01T11:00:00Z"));
    assert!(maintenance.enabled_at(at("2026-01-01T11:59:59Z")));
    assert!(!maintenance.enabled_at(at("2026-01-01T12:00:00Z")));
}

#[test]
fn unreadable_content_keeps_the_last_good_state_and_is_told() {
    let now = at("2026-01-01T11:00:00Z");
    let maintenance = Maintenance::new();
    maintenance.take(Some(&holding(ON)), now);
    maintenance.take(Some(&holding("on")), now);
    assert!(maintenance.enabled_at(now));
    assert!(maintenance.problem().is_some());
    maintenance.take(None, now);
    assert!(!maintenance.enabled_at(now));
    assert_eq!(maintenance.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_told_when_it_ends_by_itself() {
    let maintenance = std::sync::Arc::new(Maintenance::new());
    let mut enabled = maintenance.subscribe();
    let shutdown = CancellationToken::new();
    let running = {
        let (maintenance, shutdown) = (maintenance.clone(), shutdown.clone());
        tokio::spawn(async move { maintenance.run(shutdown).await })
    };
    // The end is a matter of the wall clock, which no test can pause.
    let until = Timestamp::now() + Duration::from_millis(300);
    maintenance.take(Some(&holding(&render(Some(until)))), Timestamp::now());
    enabled.changed().await.unwrap();
    assert!(*enabled.borrow_and_update());
    let ended = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(350)));
    ended.await.unwrap();
    enabled.changed().await.unwrap();
    assert!(!*enabled.borrow_and_update());
    shutdown.cancel();
    running.await.unwrap();
}
