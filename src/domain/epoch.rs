//! Epochs: identify a leader's term, and are compared by the fences of member clusters.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Number of a term: of an installation, in an incarnation of its etcd, at the revision of the leader's key.
///
/// Its text is `<installation>/<incarnation>/<revision>`, the same in the user extra of requests, in the fence's ConfigMap in
/// member clusters, and in messages. The policies in `clusters/member/fence.yaml` require exactly this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// The installation; epochs of two installations are never compared.
    pub installation: Uuid,
    /// Counts restores of Spaceport's etcd, from 1.
    pub incarnation: u64,
    /// Revision of the leader's key in etcd; grows from term to term within an incarnation. From 1.
    pub revision: i64,
}

/// Who opened an incarnation, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// The incarnation that was opened.
    pub incarnation: u64,
    /// Time.
    pub at: Timestamp,
    /// The admin who opened it.
    pub by: String,
    /// Reason given by the admin.
    pub reason: String,
}

/// Comparison of an epoch with the one in a cluster's fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochOrder {
    /// It is later: the fence may be raised to it.
    Later,
    /// It is equal.
    Same,
    /// The fence has a later one.
    Earlier,
    /// The fence is that of another installation.
    Foreign,
}

impl Epoch {
    /// Compares it with the epoch of a fence: by incarnation, then by revision.
    pub fn against(&self, held: &Self) -> EpochOrder {
        if self.installation != held.installation {
            return EpochOrder::Foreign;
        }
        match (self.incarnation, self.revision).cmp(&(held.incarnation, held.revision)) {
            std::cmp::Ordering::Less => EpochOrder::Earlier,
            std::cmp::Ordering::Equal => EpochOrder::Same,
            std::cmp::Ordering::Greater => EpochOrder::Later,
        }
    }

    /// The latest epoch that a fence raised to this one must reject.
    #[must_use]
    pub fn before(&self) -> Self {
        Self { revision: self.revision - 1, ..*self }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.installation.hyphenated(), self.incarnation, self.revision)
    }
}

/// A text that is not an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be <installation>/<incarnation>/<revision>")]
pub struct Malformed;

impl FromStr for Epoch {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split('/');
        let (Some(installation), Some(incarnation), Some(revision), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed);
        };
        let epoch = Self {
            installation: installation.parse().map_err(|_| Malformed)?,
            incarnation: incarnation.parse().map_err(|_| Malformed)?,
            revision: revision.parse().map_err(|_| Malformed)?,
        };
        // Exactly one text for each epoch, as the policies require.
        if epoch.to_string() == text { Ok(epoch) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epoch(installation: u128, incarnation: u64, revision: i64) -> Epoch {
        Epoch { installation: Uuid::from_u128(installation), incarnation, revision }
    }

    proptest! {
        #[test]
        fn an_epoch_comes_back_from_its_text(installation: u128, incarnation: u64, revision: i64) {
            let epoch = epoch(installation, incarnation, revision);
            prop_assert_eq!(epoch.to_string().parse(), Ok(epoch));
        }
    }

    #[test]
    fn the_incarnation_counts_before_the_revision_and_both_as_numbers() {
        let held = epoch(1, 2, 90);
        for (ours, standing) in [
            (epoch(1, 2, 90), EpochOrder::Same),
            (epoch(1, 2, 100), EpochOrder::Later),
            (epoch(1, 2, 89), EpochOrder::Earlier),
            (epoch(1, 1, 1000), EpochOrder::Earlier),
            (epoch(1, 10, 1), EpochOrder::Later),
            (epoch(2, 9, 900), EpochOrder::Foreign),
        ] {
            assert_eq!(ours.against(&held), standing, "{ours}");
        }
        assert_eq!(held.before().against(&held), EpochOrder::Earlier);
    }

    #[test]
    fn other_texts_are_not_epochs() {
        let id = Uuid::from_u128(7);
        for text in [
            String::new(),
            format!("{id}/1"),
            format!("{id}/1/2/3"),
            format!("{id}/01/2"),
            format!("{id}/1/+2"),
            format!("{id}/1/2 "),
            format!("{}/1/2", id.simple()),
            "x/1/2".to_owned(),
        ] {
            assert_eq!(text.parse::<Epoch>(), Err(Malformed), "{text}");
        }
    }
}
