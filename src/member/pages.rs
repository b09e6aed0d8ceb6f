//! Pagination of lists.

use kube::api::{ListParams, ObjectList};

use crate::client::Fault;

/// Objects a page of a list. Lists are consistent reads: a list that may be older than what was seen would report as
/// gone what is there. From Kubernetes 1.34 on they are served from the apiserver's cache and streamed all the same.
pub const PAGE: u32 = 500;

/// So many fewer objects are asked for where a page is too long.
const SMALLER: u32 = 10;
/// Objects of one list at most; a real one has far fewer.
pub const MOST: usize = 200_000;

/// Whether a page was too long and has to be requested again with fewer objects; sets their number in `params`.
pub fn shrink<T: Clone>(params: &mut ListParams, answer: &kube::Result<ObjectList<T>>) -> bool {
    let limit = params.limit.unwrap_or(PAGE);
    let shrinks = limit > 1 && answer.as_ref().is_err_and(|error| Fault::is_too_long(error));
    if shrinks {
        params.limit = Some((limit / SMALLER).max(1));
    }
    shrinks
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::{ListMeta, TypeMeta};

    use super::*;

    fn too_long() -> kube::Result<ObjectList<Pod>> {
        Err(kube::Error::Service(Box::new(Fault::TooLong { what: "answer", most: 1 })))
    }

    #[test]
    fn a_page_that_is_too_long_is_asked_for_with_fewer_objects_down_to_one() {
        let mut params = ListParams::default().limit(500);
        let mut limits = Vec::new();
        while shrink(&mut params, &too_long()) {
            limits.push(params.limit.unwrap());
        }
        assert_eq!(limits, [50, 5, 1]);
        let (types, metadata) = (TypeMeta::default(), ListMeta::default());
        let mut params = ListParams::default().limit(500);
        assert!(!shrink(&mut params, &Ok(ObjectList::<Pod> { types, metadata, items: Vec::new() })));
        assert_eq!(params.limit, Some(500));
    }
}
