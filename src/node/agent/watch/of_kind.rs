//! A watch of all objects of a kind that are selected.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};

use super::source::{Change, Closed, Source};
use crate::agent::api::Kind;

/// Reports the selected objects that are of this node.
pub(super) async fn follow(source: &Source, kind: Kind, settings: watcher::Config) -> Result<(), Closed> {
    let api = source.cluster.objects(kind, source.namespace.as_str());
    let mut events = watcher(api, settings).default_backoff().boxed();
    let mut listed = BTreeSet::new();
    let what = format!("watch {kind}s");
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) if source.is_own(kind, &object) => {
                listed.insert(object.name_any());
                source.report(Change::Is(kind, Box::new(object))).await?;
            }
            Ok(watcher::Event::InitApply(_)) => {}
            Ok(watcher::Event::InitDone) => {
                source.recovered(&what);
                let all = Change::All(kind, source.namespace.clone(), std::mem::take(&mut listed));
                source.report(all).await?;
            }
            Ok(watcher::Event::Apply(object)) if source.is_own(kind, &object) => {
                source.recovered(&what);
                source.report(Change::Is(kind, Box::new(object))).await?;
            }
            Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => {
                source.report(Change::Gone(kind, Box::new(object))).await?;
            }
            Err(error) => source.watch_failed(&what, &error),
        }
    }
    Ok(())
}
