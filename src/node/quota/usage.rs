//! How much of its storage a workspace uses, and the sentence about it.

use super::Backend;

/// How much of its storage a workspace uses, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// By whom it was counted.
    pub backend: Backend,
    /// Bytes on disk.
    pub used: u64,
    /// Bytes that the class allows.
    pub limit: u64,
}

impl Usage {
    /// Whether it is full. The file system refuses a write before the last byte is counted, so that one counts from 99 % on.
    pub fn is_full(self) -> bool {
        let (used, limit) = (u128::from(self.used), u128::from(self.limit));
        match self.backend {
            Backend::None => false,
            Backend::BtrfsQgroup => used * 100 >= limit * 99,
            Backend::Measured => used > limit,
        }
    }

    /// One sentence for the user.
    pub fn sentence(self) -> String {
        let (used, limit) = (shown(self.used), shown(self.limit));
        let what = match (self.backend, self.is_full()) {
            (_, false) => "there is space again",
            (Backend::BtrfsQgroup, true) => "writes fail; delete files below /workspace",
            (Backend::Measured | Backend::None, true) => {
                "writes are not stopped on this node, but on others they may be; delete files below /workspace"
            }
        };
        format!("{used} of {limit} are used: {what}")
    }
}

/// Bytes for people, by powers of 1024.
fn shown(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut size = bytes / 1024 * 10 + bytes % 1024 * 10 / 1024;
    let mut last = "KiB";
    for unit in UNITS {
        last = unit;
        if size < 10 * 1024 {
            break;
        }
        size /= 1024;
    }
    format!("{}.{} {last}", size / 10, size % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn usage(backend: Backend, used: u64) -> Usage {
        Usage { backend, used, limit: 100 * MIB }
    }

    #[test]
    fn a_file_system_that_refuses_writes_is_full_before_the_last_byte_and_a_measure_only_above() {
        let full = |backend, used| usage(backend, used).is_full();
        assert!(full(Backend::BtrfsQgroup, 99 * MIB) && !full(Backend::BtrfsQgroup, 98 * MIB));
        assert!(!full(Backend::Measured, 100 * MIB) && full(Backend::Measured, 100 * MIB + 1));
        assert!(!full(Backend::None, u64::MAX));
        assert!(full(Backend::BtrfsQgroup, u64::MAX));
    }

    #[test]
    fn the_sentence_says_whether_writes_fail() {
        let of = |backend, used| usage(backend, used).sentence();
        assert_eq!(
            of(Backend::BtrfsQgroup, 100 * MIB),
            "100.0 MiB of 100.0 MiB are used: writes fail; delete files below /workspace"
        );
        assert!(
            of(Backend::Measured, 3 << 30)
                .starts_with("3.0 GiB of 100.0 MiB are used: writes are not stopped")
        );
        assert!(of(Backend::Measured, MIB).ends_with("1.0 MiB of 100.0 MiB are used: there is space again"));
    }

    #[test]
    fn bytes_are_shown_with_the_largest_unit_that_fits() {
        for (bytes, text) in [(0, "0.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (1 << 40, "1.0 TiB")] {
            assert_eq!(shown(bytes), text);
        }
        assert_eq!(shown(u64::MAX), "15.9 EiB");
    }
}
