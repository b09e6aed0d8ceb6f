//! Which known key a misspelt one means.

/// The known key that differs least from `key`; `None` if none is similar.
pub(super) fn closest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let key = letters(key);
    let similar = known.filter_map(|known| {
        let letters = letters(known);
        let most = (letters.len() / 3).clamp(1, 3);
        // A key that is far longer needs no table.
        let differs = key.len().abs_diff(letters.len());
        let distance = if differs > most { differs } else { distance(&key, &letters) };
        (distance <= most).then_some((distance, known))
    });
    similar.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Letters and digits of a key, so that `server-name` equals `serverName`.
fn letters(key: &str) -> Vec<char> {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Number of characters to insert, delete, replace, or swap with their neighbour.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
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
