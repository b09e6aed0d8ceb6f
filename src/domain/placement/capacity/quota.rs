//! Remaining ResourceQuotas of a namespace.

use super::Resources;

/// What remains of one ResourceQuota for pods; `None` for resources that it does not limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuotaLeft {
    /// Name of the ResourceQuota.
    pub name: String,
    /// Millicores.
    pub cpu: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of ephemeral storage.
    pub storage: Option<u64>,
    /// Pods.
    pub pods: Option<u64>,
}

impl QuotaLeft {
    /// How many pods with these requests it allows; `u64::MAX` if it limits nothing that they request.
    pub fn times(&self, each: &Resources) -> u64 {
        let pairs = [
            (self.cpu, each.cpu),
            (self.memory, each.memory),
            (self.storage, each.storage),
            (self.pods, each.pods),
        ];
        let limited = pairs.into_iter().filter(|(_, each)| *each > 0);
        limited.filter_map(|(left, each)| Some(left? / each)).min().unwrap_or(u64::MAX)
    }
}

/// The quota that allows the fewest pods, and how many.
pub fn tightest<'a>(quotas: &'a [QuotaLeft], each: &Resources) -> Option<(&'a str, u64)> {
    let counted = quotas.iter().map(|quota| (quota.name.as_str(), quota.times(each)));
    counted.min_by_key(|(_, times)| *times).filter(|(_, times)| *times < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_quota_counts_and_quotas_of_other_resources_do_not() {
        let pod = Resources { cpu: 500, memory: 1 << 30, storage: 0, pods: 1 };
        let by_cpu = QuotaLeft { name: "cpu".into(), cpu: Some(1_700), ..QuotaLeft::default() };
        let by_pods = QuotaLeft { name: "pods".into(), pods: Some(2), ..QuotaLeft::default() };
        let by_storage = QuotaLeft { name: "storage".into(), storage: Some(0), ..QuotaLeft::default() };
        assert_eq!(by_storage.times(&pod), u64::MAX);
        assert_eq!(tightest(&[by_cpu.clone(), by_pods, by_storage.clone()], &pod), Some(("pods", 2)));
        assert_eq!(tightest(&[by_cpu], &pod), Some(("cpu", 3)));
        assert_eq!(tightest(&[by_storage], &pod), None);
        assert_eq!(tightest(&[], &pod), None);
    }
}
