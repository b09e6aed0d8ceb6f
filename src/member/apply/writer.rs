//! [`Writer`]: sends writes to one namespace, and converts responses into outcomes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, Request, TypeMeta, request};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use domain::names::{ClusterName, Namespace};

use crate::client::{Waited, within};
use crate::error::{Error, Result, Rule};
use k8s::fast_decode;
use k8s::resources::names::MANAGER;

/// Whether this process may write now. Asked before every write.
pub type Permit = Arc<dyn Fn() -> bool + Send + Sync>;

/// Outcome of a creation.
#[derive(Debug, Clone, PartialEq)]
pub enum Created<T> {
    /// It was made.
    New(T),
    /// An object of that name exists.
    Exists,
}

/// Outcome of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Patched<T> {
    /// It was changed, and this is what it is now.
    Done(T),
    /// There is no such object.
    NotFound,
    /// The object is another, or another version, than the caller saw.
    Conflict,
}

/// Outcome of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or will be when its finalizers are.
    Accepted,
    /// There was no such object.
    NotFound,
    /// The object of that name is another one.
    Conflict,
}

/// A request, or why there is none.
pub(super) type Prepared = std::result::Result<http::Request<Vec<u8>>, request::Error>;

/// Writes to one namespace.
#[derive(Clone)]
pub struct Writer {
    pub(super) cluster: ClusterName,
    pub(super) namespace: Namespace,
    pub(super) client: kube::Client,
    pub(super) deadline: Duration,
    pub(super) maintenance_name: String,
    permit: Permit,
}

impl Writer {
    /// Writes through `client`, each call within `deadline` and only while `permit` allows it. Outside of tests, a pass
    /// makes one: [`Member::writer`](crate::Member::writer).
    pub fn new(
        cluster: ClusterName,
        namespace: Namespace,
        client: kube::Client,
        deadline: Duration,
        maintenance_name: String,
        permit: Permit,
    ) -> Self {
        Self { cluster, namespace, client, deadline, maintenance_name, permit }
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The deadline of each call.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The workspace namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace.as_str())
    }

    /// Requests about objects of a kind there.
    pub(super) fn requests<K>(&self) -> Request
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Request::new(K::url_path(&(), Some(self.namespace.as_str())))
    }

    /// A creation, with what is read of the object made; `name` is for people.
    pub(super) async fn create<K, A>(&self, name: &str, object: &K) -> Result<Created<A>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize,
        A: DeserializeOwned,
    {
        let action = format!("create {} {name}", K::kind(&()));
        let call = async { self.answer(self.creation(&by_us(), object)?).await };
        created(self.write(action, call).await)
    }

    /// A dry run of a creation: whether the cluster would accept it. An object of the name that exists is no failure.
    pub(super) async fn try_create<K>(&self, name: &str, object: &K) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize,
    {
        let action = format!("dry-run the creation of {} {name}", K::kind(&()));
        let params = PostParams { dry_run: true, ..by_us() };
        let call = async {
            // What stands between may answer 200 with anything.
            let made: TypeMeta = self.answer(self.creation(&params, object)?).await?;
            if made.kind == K::kind(&()) { Ok(()) } else { Err(other_kind(&made.kind)) }
        };
        created(self.write(action, call).await).map(drop)
    }

    /// The request of a creation. The apiserver gives up when the caller does: what was not created by then will not be.
    fn creation<K>(&self, params: &PostParams, object: &K) -> kube::Result<Prepared>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize,
    {
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        Ok(giving_up_after(self.requests::<K>().create(params, body), self.deadline))
    }

    /// The same writer with a shorter deadline for each call.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline: deadline.min(self.deadline), ..self.clone() }
    }

    /// Sends a write and reads the object of its answer.
    pub(super) async fn answer<K: DeserializeOwned>(&self, request: Prepared) -> kube::Result<K> {
        let text = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        fast_decode::decode(&text).map_err(kube::Error::SerdeError)
    }

    /// Sends a write of whose answer nobody needs more than that it was taken.
    pub(super) async fn taken(&self, request: Prepared) -> kube::Result<()> {
        self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await.map(drop)
    }

    /// A read: anyone may.
    pub(super) async fn read<T>(
        &self,
        action: String,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        match within(self.deadline, call).await {
            Ok(answer) => answer.map_err(|error| Error::from_kube(&self.cluster, action, error)),
            // A write is one request, so none of it was sent.
            Err(Waited::ForTurn) => Err(Error::Queued { cluster: self.cluster.clone(), action }),
            Err(Waited::ForAnswer) => Err(Error::Ambiguous {
                cluster: self.cluster.clone(),
                action,
                reason: format!("no answer within {:?}", self.deadline),
            }),
        }
    }

    /// A write: only the leader may. The permit is asked at the last moment before anything is sent.
    pub(super) async fn write<T>(
        &self,
        action: String,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        if !(self.permit)() {
            return Err(Error::NotLeader { cluster: self.cluster.clone(), action });
        }
        self.read(action, call).await
    }
}

/// With the time after which the apiserver gives up.
fn giving_up_after(request: Prepared, deadline: Duration) -> Prepared {
    let mut request = request?;
    let query = if request.uri().query().is_some() { '&' } else { '?' };
    let uri = format!("{}{query}timeout={}ms", request.uri(), deadline.as_millis().max(1));
    if let Ok(uri) = uri.parse() {
        *request.uri_mut() = uri;
    }
    Ok(request)
}

/// As the one who sets the fields.
pub(super) fn by_us() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// Deletes no other object of the same name.
pub(super) fn exactly(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// The error of an answer that holds an object of another kind than the one created.
fn other_kind(kind: &str) -> kube::Error {
    kube::Error::SerdeError(serde::de::Error::custom(format!("the answer is of kind {kind:?}")))
}

/// Sorts refusals that a caller acts on out of the errors.
pub(super) fn created<T>(answer: Result<T>) -> Result<Created<T>> {
    match answer {
        Ok(object) => Ok(Created::New(object)),
        Err(error) if error.is_of_webhook() => Err(error),
        Err(Error::Refused { code: 409, reason: "AlreadyExists", .. }) => Ok(Created::Exists),
        Err(error) => Err(error),
    }
}

pub(super) fn patched<T>(answer: Result<T>) -> Result<Patched<T>> {
    match answer {
        Ok(object) => Ok(Patched::Done(object)),
        Err(error) if error.is_of_webhook() => Err(error),
        Err(Error::Refused { code: 404, .. }) => Ok(Patched::NotFound),
        Err(Error::Refused { code: 409, .. } | Error::Refused { rule: Rule::OtherUid, .. }) => {
            Ok(Patched::Conflict)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn deleted<T>(answer: Result<T>) -> Result<Deleted> {
    Ok(match patched(answer)? {
        Patched::Done(_) => Deleted::Accepted,
        Patched::NotFound => Deleted::NotFound,
        Patched::Conflict => Deleted::Conflict,
    })
}

pub(super) fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(object) => Ok(Some(object)),
        // A missing resource definition is 404 too, but is no answer about the object.
        Err(Error::Refused { code: 404, reason: "NotFound", .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
