use std::path::Path;

use super::*;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

#[test]
fn quantities_read_as_kubernetes_reads_them() {
    for (text, milli) in [
        ("0", 0),
        ("500m", 500),
        ("2", 2_000),
        ("+2", 2_000),
        ("1.5", 1_500),
        (".5", 500),
        ("5.", 5_000),
        ("1e3", 1_000_000),
        ("1E-1", 100),
        ("100u", 1),
        ("1n", 1),
        ("0.0000000000000000001", 1),
        ("1k", 1_000_000),
        ("1Ki", 1_024_000),
        ("1.5Gi", 1_610_612_736_000),
        ("007", 7_000),
        ("0e500", 0),
    ] {
        assert_eq!(quantity(text).milli(), milli, "{text}");
    }
    assert_eq!(quantity("16Gi").value(), 17_179_869_184);
    assert_eq!(quantity("1E").value(), 1_000_000_000_000_000_000);
    assert_eq!(quantity("1500m").value(), 2);
    assert!(quantity("1Gi") > quantity("1G"));
    assert_eq!(quantity("1000m"), quantity("1"));
}

#[test]
fn invalid_quantities_are_rejected() {
    for text in ["", "x", "1 Gi", "1gi", "1K", "1.2.3", "e3", "1e", "--1", "1e+-3", "1Gib", "."] {
        assert_eq!(text.parse::<Quantity>(), Err(Error::InvalidQuantity(text.to_owned())));
    }
    assert_eq!("-1".parse::<Quantity>(), Err(Error::NegativeQuantity("-1".to_owned())));
    for text in ["8Ei", "1e30", "99999999999999999999999999999999999999999", "1e30000"] {
        assert_eq!(text.parse::<Quantity>(), Err(Error::QuantityOverflow(text.to_owned())));
    }
}

const STANDARD: &str = r#"{
    "name": "Standard", "creditsPerMinute": 0.1667,
    "container": {
        "requests": {"cpu": 1, "memory": "4Gi", "ephemeral-storage": "5Gi"},
        "limits": {"cpu": {"min": "1500m", "burst": "4"}, "memory": "16Gi", "ephemeral-storage": "10Gi", "storage": "30Gi"}
    },
    "templates": {"defaultPath": "templates/default.yaml"}
}"#;

fn class(json: &str) -> Result<Class, Vec<Problem>> {
    Class::parse("g1-standard", &serde_json::from_str(json).unwrap(), Path::new("/etc/spaceport"))
}

#[test]
fn a_class_reads_with_the_key_names_of_the_configuration() {
    let class = class(STANDARD).unwrap();
    assert_eq!(class.requests.cpu.milli(), 1_000);
    assert_eq!(class.limits.cpu.min.milli(), 1_500);
    assert_eq!(class.limits.ephemeral_storage, quantity("10Gi"));
    assert_eq!(class.templates.default.as_deref(), Some(Path::new("/etc/spaceport/templates/default.yaml")));
    assert_eq!(class.templates.regular, None);
}

#[test]
fn the_generated_description_rounds_up_to_decimal_gigabytes() {
    assert_eq!(class(STANDARD).unwrap().description(), "4 vCPU, 18GB memory, 33GB disk");
    assert_eq!(class("{}").unwrap().description(), "0 vCPU, 0GB memory, 0GB disk");
    let requests_only = r#"{"container": {"requests": {"cpu": "1500m", "memory": "1G"}}}"#;
    assert_eq!(class(requests_only).unwrap().description(), "2 vCPU, 1GB memory, 0GB disk");
    assert_eq!(class(r#"{"description": "Up to 4 cores"}"#).unwrap().description(), "Up to 4 cores");
}

#[test]
fn every_problem_is_listed_with_its_path() {
    let raw = r#"{"creditsPerMinute": -1, "container": {
        "requests": {"cpu": "two", "memory": "4Gi"}, "limits": {"memory": "2Gi", "storage": "-1Gi"}}}"#;
    let problems = Class::parse("g1/large", &serde_json::from_str(raw).unwrap(), Path::new("")).unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "workspace class must be 1 to 63 letters, digits, dots, dashes or underscores, beginning and ending with a letter or digit, got \"g1/large\"",
            "creditsPerMinute: must be zero or more",
            "container.requests.cpu: \"two\" is not a quantity such as 500m, 2 or 16Gi",
            "container.limits.storage: \"-1Gi\" is negative",
            "container.requests.memory: 4Gi is more than the limit 2Gi",
        ]
    );
}

#[test]
fn class_ids_are_label_values() {
    for valid in ["a", "g1-standard", "A.b_c-9"] {
        assert_eq!(valid.parse::<ClassId>().unwrap().as_str(), valid);
    }
    for invalid in ["", "-a", "a-", "a b", "ä", &"a".repeat(64)] {
        assert!(invalid.parse::<ClassId>().is_err(), "{invalid}");
    }
}
