use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Result<i64, Error> {
    text.parse::<GoDuration>().map(GoDuration::nanos)
}

const S: i64 = 1_000_000_000;

#[test]
fn reads_what_go_reads() {
    for (text, nanos) in [
        ("0", 0),
        ("-0", 0),
        ("5s", 5 * S),
        ("30s", 30 * S),
        ("1478s", 1478 * S),
        ("-5s", -5 * S),
        ("+5s", 5 * S),
        ("5.0s", 5 * S),
        ("5.6s", 5_600_000_000),
        ("5.s", 5 * S),
        (".5s", S / 2),
        ("1.004s", 1_004_000_000),
        ("100.00100s", 100_001_000_000),
        ("10ns", 10),
        ("11us", 11_000),
        ("12\u{b5}s", 12_000),
        ("12\u{3bc}s", 12_000),
        ("13ms", 13_000_000),
        ("15m", 900 * S),
        ("16h", 57_600 * S),
        ("3h30m", 12_600 * S),
        ("10.5s4m", 250_500_000_000),
        ("-2m3.4s", -123_400_000_000),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("9007199254740993ns", (1 << 53) + 1),
        ("9223372036854775807ns", i64::MAX),
        ("-9223372036854775808ns", i64::MIN),
        ("0.3333333333333333333h", 1_200 * S),
        ("0.100000000000000000000h", 360 * S),
        ("0.830103483285477580700h", 2_988_372_539_827),
    ] {
        assert_eq!(parsed(text), Ok(nanos), "{text}");
    }
}

#[test]
fn refuses_what_go_refuses() {
    for text in [
        "",
        "3",
        "-",
        "s",
        ".",
        "-.",
        ".s",
        "+.s",
        "1d",
        "1h ",
        " 1h",
        "1h-2m",
        "\u{85}\u{85}",
        "3000000h",
        "9223372036854775808ns",
        "9223372036854775.808us",
        "-9223372036854775809ns",
        "99999999999999999999h",
    ] {
        assert!(parsed(text).is_err(), "{text:?}");
    }
}

#[test]
fn errors_name_the_rule() {
    assert_eq!(parsed("5").unwrap_err().to_string(), r#""5" lacks a unit: one of ns, us, ms, s, m, h"#);
    assert_eq!(
        parsed("5d").unwrap_err().to_string(),
        r#""5d" has an unknown unit "d": one of ns, us, ms, s, m, h"#
    );
    assert_eq!(GoDuration::from_secs(-1).to_std().unwrap_err().to_string(), "-1s is negative");
}

#[test]
fn prints_what_go_prints() {
    for (nanos, text) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1\u{b5}s"),
        (1_000_000, "1ms"),
        (2_200_000, "2.2ms"),
        (1_500_000_000, "1.5s"),
        (3_300_000_000, "3.3s"),
        (245 * S, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (1_800 * S, "30m0s"),
        (3_600 * S, "1h0m0s"),
        (480_000_000_001, "8m0.000000001s"),
        (-90 * S, "-1m30s"),
        (i64::MAX, "2562047h47m16.854775807s"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        assert_eq!(GoDuration::from_nanos(nanos).to_string(), text);
    }
}

#[test]
fn hours_and_minutes_round_to_the_minute() {
    for (seconds, text) in [
        (0, "00h00m"),
        (29, "00h00m"),
        (30, "00h01m"),
        (5_400, "01h30m"),
        (360_000, "100h00m"),
        (-90, "-00h02m"),
    ] {
        assert_eq!(GoDuration::from_secs(seconds).hours_minutes(), text);
    }
}

#[test]
fn serde_reads_text_and_nanoseconds_and_writes_text() {
    let read = |json: &str| serde_json::from_str::<GoDuration>(json);
    assert_eq!(read(r#""30m""#).unwrap(), GoDuration::from_secs(1_800));
    assert_eq!(read("1500000000").unwrap().to_string(), "1.5s");
    assert!(read("1.5").is_err());
    assert!(read("18446744073709551615").is_err());
    assert_eq!(serde_json::to_string(&GoDuration::from_secs(90)).unwrap(), r#""1m30s""#);
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(nanos in any::<i64>()) {
        // Seconds print with up to nine digits behind the point, which Go's floating point reads exactly below 2^53 ns a part.
        let duration = GoDuration::from_nanos(nanos);
        prop_assert_eq!(duration.to_string().parse::<GoDuration>().unwrap(), duration);
    }

    #[test]
    fn no_text_panics(text in "[-+]?[0-9.]{0,25}(ns|us|ms|s|m|h|x|µs){0,2}[0-9.a-zµ]{0,8}") {
        let _ = text.parse::<GoDuration>();
    }
}
