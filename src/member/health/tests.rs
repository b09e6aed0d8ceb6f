use super::*;

fn cell() -> HealthCell {
    HealthCell::new(Limits {
        suspect_after: 3,
        lost_after: Duration::from_secs(40),
        recover_after: Duration::from_secs(30),
        hold_down_max: Duration::from_mins(10),
    })
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_failing_calls_is_no_miss_and_any_answer_ends_a_row_of_misses() {
    let cell = cell();
    cell.answered();
    for _ in 0..100 {
        cell.missed("the connection broke");
    }
    assert_eq!(cell.health(), Health::Available);
    cell.probe_missed("a");
    cell.probe_missed("b");
    cell.answered();
    cell.probe_missed("c");
    assert_eq!(cell.health(), Health::Available);
}

#[tokio::test(start_paused = true)]
async fn a_report_says_since_when_and_why() {
    let cell = cell();
    let mut changes = cell.subscribe();
    cell.answered();
    assert_eq!(cell.report().reason, "");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(2)).await;
        cell.probe_missed("no answer to /readyz within 1s");
    }
    let report = cell.report();
    assert_eq!(report.health, Health::Suspect);
    assert_eq!(report.last_answer, Some(Duration::from_secs(6)));
    assert!(report.reason.ends_with("no answer to /readyz within 1s"), "{}", report.reason);
    tokio::time::advance(Duration::from_secs(40)).await;
    cell.probe_missed("no answer to /readyz within 1s");
    assert_eq!(*changes.borrow_and_update(), Health::Lost);
    assert_eq!(cell.report().reason, "no answer for 46 s: no answer to /readyz within 1s");
}
