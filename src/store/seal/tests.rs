use super::*;

fn key(id: &str, byte: u8) -> SealingKey {
    SealingKey { id: id.to_owned(), secret: Secret::new(vec![byte; KEY_LEN]) }
}

fn sealer(keys: &[(&str, u8)]) -> Sealer {
    Sealer::new(keys.iter().map(|(id, byte)| key(id, *byte)).collect()).unwrap()
}

#[test]
fn a_sealed_text_opens_for_its_purpose_after_a_round_trip_through_json() {
    let sealer = sealer(&[("a", 1)]);
    let text = sealer.seal("kubeconfig of cluster eu", b"hunter2").unwrap();
    let json = serde_json::to_string(&text).unwrap();
    assert!(json.contains(r#""keyId":"a""#) && !json.contains("hunter2"), "{json}");
    let back = serde_json::from_str(&json).unwrap();
    assert_eq!(sealer.open("kubeconfig of cluster eu", &back).unwrap().expose(), b"hunter2");
}

#[test]
fn the_same_text_is_never_sealed_to_the_same_bytes() {
    let sealer = sealer(&[("a", 1)]);
    assert_ne!(sealer.seal("x", b"same").unwrap(), sealer.seal("x", b"same").unwrap());
}

#[test]
fn a_text_moved_to_another_cluster_is_refused() {
    let sealer = sealer(&[("a", 1)]);
    let text = sealer.seal("kubeconfig of cluster eu", b"hunter2").unwrap();
    let error = sealer.open("kubeconfig of cluster us", &text).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { purpose, id } if purpose.ends_with("us") && id == "a"),
        "{error}"
    );
}

#[test]
fn every_changed_byte_is_refused() {
    let sealer = sealer(&[("a", 1)]);
    let text = sealer.seal("x", b"hunter2").unwrap();
    for at in 0..text.ciphertext.len() {
        let mut bad = text.clone();
        bad.ciphertext[at] ^= 1;
        assert!(sealer.open("x", &bad).is_err());
    }
    for nonce in [vec![], vec![0; NONCE_LEN]] {
        assert!(sealer.open("x", &Sealed { nonce, ..text.clone() }).is_err());
    }
    assert!(sealer.open("x", &Sealed { ciphertext: vec![], ..text }).is_err());
}

#[test]
fn the_first_key_seals_and_all_open() {
    let old = sealer(&[("a", 1)]);
    let both = sealer(&[("b", 2), ("a", 1)]);
    let text = old.seal("x", b"hunter2").unwrap();
    assert_eq!(both.open("x", &text).unwrap().expose(), b"hunter2");
    assert!(!both.is_current(&text));
    assert!(both.is_current(&both.seal("x", b"").unwrap()));
    let error = sealer(&[("b", 2)]).open("x", &text).unwrap_err();
    assert_eq!(error.to_string(), "x is sealed with key a, which is not configured");
}

#[test]
fn other_material_under_the_same_id_is_refused() {
    let text = sealer(&[("a", 1)]).seal("x", b"hunter2").unwrap();
    assert!(matches!(sealer(&[("a", 2)]).open("x", &text), Err(Error::Refused { .. })));
}

#[test]
fn keys_must_be_there_unique_and_of_the_right_length() {
    assert_eq!(Sealer::new(vec![]).unwrap_err(), Error::NoKey);
    assert!(matches!(Sealer::new(vec![key("a", 1), key("a", 2)]), Err(Error::KeyTwice { .. })));
    let short = SealingKey { id: "a".to_owned(), secret: Secret::new(vec![1; 31]) };
    assert_eq!(Sealer::new(vec![short]).unwrap_err().to_string(), "sealing key a has 31 bytes, must have 32");
}

#[test]
fn nothing_secret_is_printed() {
    let sealer = sealer(&[("a", 1)]);
    let text = sealer.seal("x", b"hunter2").unwrap();
    assert_eq!(format!("{sealer:?} {text:?}"), r#"["a"] Sealed(23 bytes, key "a")"#);
    assert!(!format!("{:?}", key("a", 1)).contains("1, 1"));
}
