//! Which known key a misspelt one means.

use strsim::osa_distance;

/// The known key that differs least from `key`; `None` if none is similar.
pub(super) fn closest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let key = letters(key);
    let similar = known.filter_map(|known| {
        let letters = letters(known);
        let most = (letters.len() / 3).clamp(1, 3);
        // A key that is far longer needs no table; known keys are ASCII.
        let differs = key.chars().count().abs_diff(letters.len());
        let distance = if differs > most { differs } else { osa_distance(&key, &letters) };
        (distance <= most).then_some((distance, known))
    });
    similar.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Letters and digits of a key, so that `server-name` equals `serverName`.
fn letters(key: &str) -> String {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_differs_least_is_meant_and_none_that_differs_much() {
        let known = ["name", "region", "labels", "serverName", "kubeconfig", "weight", "maxWeight"];
        for (key, expected) in [
            ("regoin", Some("region")),
            ("nme", Some("name")),
            ("label", Some("labels")),
            ("server-name", Some("serverName")),
            ("max_weight", Some("maxWeight")),
            ("Weight", Some("weight")),
            ("kubconfg", Some("kubeconfig")),
            ("zone", None),
            ("", None),
            ("größe", None),
        ] {
            assert_eq!(closest(key, known.into_iter()), expected, "{key}");
        }
        assert_eq!(closest(&"x".repeat(1 << 20), known.into_iter()), None);
    }
}
