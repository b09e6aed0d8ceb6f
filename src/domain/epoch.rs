//! The identity of a leadership, as member clusters compare it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A leadership: of an installation, in an incarnation of its etcd, at the revision of the leader's key.
///
/// Its text is `<installation>/<incarnation>/<revision>`, the same in the extra of calls, in the parameter that member
/// clusters hold, and in messages. The policies in `clusters/member/fence.yaml` take exactly this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Of Spaceport; epochs of two installations are never compared.
    pub installation: Uuid,
    /// Counts restores of Spaceport's etcd, from 1.
    pub incarnation: u64,
    /// Of the leader's key in etcd; grows from leader to leader within an incarnation. From 1.
    pub revision: i64,
}

/// Who opened an incarnation, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// The new one.
    pub incarnation: u64,
    /// When.
    pub at: Timestamp,
    /// The admin.
    pub by: String,
    /// In the admin's words.
    pub reason: String,
}

/// How an epoch stands to the one that a cluster holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is later: the cluster may be raised to it.
    Later,
    /// It is the one.
    Same,
    /// The cluster has seen a later one.
    Earlier,
    /// The cluster is held by another installation.
    Foreign,
}

impl Epoch {
    /// How it stands to the one that is held: by incarnation, then by revision.
    pub fn against(&self, held: &Self) -> Standing {
        if self.installation != held.installation {
            return Standing::Foreign;
        }
        match (self.incarnation, self.revision).cmp(&(held.incarnation, held.revision)) {
            std::cmp::Ordering::Less => Standing::Earlier,
            std::cmp::Ordering::Equal => Standing::Same,
            std::cmp::Ordering::Greater => Standing::Later,
        }
    }

    /// The latest epoch that a cluster raised to this one must refuse.
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

/// A text that is no epoch.
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
        // One text for each epoch, as the policies have it.
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
            (epoch(1, 2, 90), Standing::Same),
            (epoch(1, 2, 100), Standing::Later),
            (epoch(1, 2, 89), Standing::Earlier),
            (epoch(1, 1, 1000), Standing::Earlier),
            (epoch(1, 10, 1), Standing::Later),
            (epoch(2, 9, 900), Standing::Foreign),
        ] {
            assert_eq!(ours.against(&held), standing, "{ours}");
        }
        assert_eq!(held.before().against(&held), Standing::Earlier);
    }

    #[test]
    fn other_texts_are_no_epochs() {
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
