use super::*;

fn origin(last: u8) -> Origin {
    Origin::from(IpAddr::from([127, 0, 0, last]))
}

fn slots(total: usize, per_address: usize, yields: Yields) -> Slots {
    Slots::new(Caps { total, per_address }, yields)
}

#[test]
fn a_newcomer_displaces_the_oldest_of_its_own_address_at_the_cap_of_an_address() {
    let slots = slots(10, 2, Yields::Oldest);
    let taken: Vec<Slot> = (0..3).map(|_| slots.take(origin(1)).unwrap()).collect();
    let displaced: Vec<bool> = taken.iter().map(|slot| slot.displaced().is_cancelled()).collect();
    assert_eq!(displaced, [true, false, false]);
    assert_eq!(slots.count(), 2);
    drop(taken);
    assert_eq!(slots.count(), 0);
}

#[test]
fn a_newcomer_displaces_the_oldest_of_the_busiest_address_at_the_cap_in_all() {
    let slots = slots(4, 4, Yields::Oldest);
    let busy: Vec<Slot> = (0..3).map(|_| slots.take(origin(1)).unwrap()).collect();
    let quiet = slots.take(origin(2)).unwrap();
    let newcomer = slots.take(origin(3)).unwrap();
    assert!(busy[0].displaced().is_cancelled());
    assert!([&busy[1], &busy[2], &quiet, &newcomer].iter().all(|slot| !slot.displaced().is_cancelled()));
    assert_eq!(slots.count(), 4);
}

#[test]
fn at_the_cap_of_an_address_only_its_own_new_connections_are_rejected() {
    let slots = slots(10, 2, Yields::Newest);
    let taken = [slots.take(origin(1)).unwrap(), slots.take(origin(1)).unwrap()];
    assert_eq!(slots.take(origin(1)).unwrap_err(), Full::Address);
    assert!(slots.take(origin(2)).is_ok());
    assert!(taken.iter().all(|slot| !slot.displaced().is_cancelled()));
}

#[test]
fn at_the_total_cap_the_newest_connection_of_a_busier_address_is_displaced() {
    let slots = slots(4, 3, Yields::Newest);
    let busy: Vec<Slot> = (0..3).map(|_| slots.take(origin(1)).unwrap()).collect();
    let second = slots.take(origin(2)).unwrap();
    let third = slots.take(origin(3)).unwrap();
    assert!(busy[2].displaced().is_cancelled() && !busy[0].displaced().is_cancelled());
    // Two, one and one: no address would have more than one more than another after a second connection.
    assert_eq!(slots.take(origin(2)).unwrap_err(), Full::Total);
    assert_eq!(slots.take(origin(1)).unwrap_err(), Full::Total);
    assert!(!second.displaced().is_cancelled() && !third.displaced().is_cancelled());
    drop(busy);
    assert_eq!(slots.count(), 2, "a displaced slot is given back once");
}

#[test]
fn addresses_of_one_ipv6_network_are_one_origin() {
    let of = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
    assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    assert_eq!(of("::ffff:127.0.0.1"), of("127.0.0.1"));
    assert_ne!(of("127.0.0.1"), of("127.0.0.2"));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For any order of connections: no cap is exceeded, and no slot is lost or counted twice.
        #[test]
        fn caps_hold_and_no_slot_is_lost(
            steps in proptest::collection::vec((0u8..5, any::<bool>()), 1..200),
            oldest in any::<bool>(),
        ) {
            let caps = Caps { total: 8, per_address: 3 };
            let slots = Slots::new(caps, if oldest { Yields::Oldest } else { Yields::Newest });
            let mut held: Vec<Slot> = Vec::new();
            for (last, leaves) in steps {
                if leaves && !held.is_empty() {
                    held.remove(usize::from(last) % held.len());
                } else {
                    match slots.take(origin(last)) {
                        Ok(slot) => held.push(slot),
                        Err(_) => prop_assert!(!oldest),
                    }
                }
                let live = held.iter().filter(|slot| !slot.displaced().is_cancelled()).count();
                prop_assert_eq!(slots.count(), live);
                prop_assert!(live <= caps.total);
                for last in 0..5 {
                    prop_assert!(slots.taken.lock().count_of(origin(last)) <= caps.per_address);
                }
            }
            drop(held);
            prop_assert_eq!(slots.count(), 0);
            prop_assert!(slots.taken.lock().of.is_empty());
        }
    }
}
