//! `node.diskGuard.minFree`: a share of the file system, or bytes.

use std::str::FromStr;

use domain::class::Quantity;

/// Free space that a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// Of the size of the file system.
    Percent(u8),
    /// In bytes.
    Bytes(u64),
}

impl Default for MinFree {
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl MinFree {
    /// Whether nothing is kept free.
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::Percent(0) | Self::Bytes(0))
    }

    /// In bytes, for a file system of this size.
    pub fn bytes(self, size: u64) -> u64 {
        match self {
            Self::Percent(percent) => {
                u64::try_from(u128::from(size) * u128::from(percent) / 100).unwrap_or(size)
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl FromStr for MinFree {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule =
            || format!("{text:?} is neither a percentage below 100 such as 10% nor bytes such as 20Gi");
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse::<u8>().ok().filter(|percent| *percent < 100);
            return percent.map(Self::Percent).ok_or_else(rule);
        }
        text.parse::<Quantity>().map(|bytes| Self::Bytes(bytes.value())).map_err(|_| rule())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_a_share_or_bytes() {
        let parsed = |text: &str| text.parse::<MinFree>();
        assert_eq!(parsed("10%"), Ok(MinFree::Percent(10)));
        assert_eq!(parsed("20Gi"), Ok(MinFree::Bytes(20 << 30)));
        assert!(parsed("0").unwrap().is_zero() && parsed("0%").unwrap().is_zero());
        for bad in ["100%", "-1%", "%", "x", "1.5%", "-5"] {
            assert!(parsed(bad).unwrap_err().contains("10%"), "{bad}");
        }
        assert_eq!(MinFree::Percent(10).bytes(1000), 100);
        assert_eq!(MinFree::Percent(99).bytes(u64::MAX), u64::MAX / 100 * 99 + 15 * 99 / 100);
        assert_eq!(MinFree::Bytes(7).bytes(1), 7);
    }
}
