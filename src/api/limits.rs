//! Rate limits of unary methods. The replica that serves a call counts it: for writes that is the leader, so their
//! limits hold for the whole installation; limits of reads hold for each replica. Limits can be replaced while calls
//! wait.

mod bucket;
mod fields;
mod layer;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use ring::digest;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use self::bucket::{Buckets, Key, Rate};
use self::fields::FieldPath;
use proto::FILE_DESCRIPTOR_SET;
use runtime::config::{Problem, RateLimit};

/// Longest time that a blocking limit delays a call.
const PATIENCE: Duration = Duration::from_mins(1);

/// Validated limits by full method name.
#[derive(Debug)]
pub struct Checked(HashMap<String, Arc<Limit>>);

/// The limits in force.
#[derive(Debug)]
pub struct Limits {
    methods: watch::Sender<HashMap<String, Arc<Limit>>>,
    start: Instant,
    counters: Counters,
}

/// Counters of limited calls. Clones share them.
#[derive(Debug, Clone)]
pub struct Counters {
    counted: IntCounterVec,
    /// Named as in the rate limiter of existing Go installations.
    calls: IntCounterVec,
    hits: IntCounterVec,
}

impl Counters {
    /// All at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let counter =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        Ok(Self {
            counted: counter(
                "spaceport_requests_limited_total",
                "Calls that a rate limit rejected (`refused`) or delayed (`waited`).",
                &["method", "outcome"],
            )?,
            calls: counter(
                "grpc_server_rate_limiter_calls_total",
                "Calls of methods with a rate limit, by whether it rejected or delayed them.",
                &["grpc_method", "rate_limited"],
            )?,
            hits: counter(
                "grpc_server_rate_limiter_cache_hit_total",
                "Calls whose key already had a token bucket.",
                &["grpc_method"],
            )?,
        })
    }
}

impl Collector for Counters {
    fn desc(&self) -> Vec<&Desc> {
        [&self.counted, &self.calls, &self.hits].into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        [&self.counted, &self.calls, &self.hits].into_iter().flat_map(Collector::collect).collect()
    }
}

#[derive(Debug)]
struct Limit {
    configured: RateLimit,
    keys: Vec<FieldPath>,
    buckets: Mutex<Buckets>,
}

impl Checked {
    /// Validates limits against the served methods; a key field that does not exist is a problem.
    pub fn new(configured: &BTreeMap<String, RateLimit>) -> Result<Self, Vec<Problem>> {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).map_err(|error| broken(&error))?;
        let (mut methods, mut problems) = (HashMap::new(), Vec::new());
        for (method, limit) in configured {
            match Limit::new(&files, method, limit) {
                Ok(limit) => methods.extend(limit.map(|limit| (method.clone(), Arc::new(limit)))),
                Err(message) => {
                    problems.push(Problem { path: format!("rpcServer.ratelimits.{method}.key"), message });
                }
            }
        }
        if problems.is_empty() { Ok(Self(methods)) } else { Err(problems) }
    }
}

fn broken(error: &dyn std::fmt::Display) -> Vec<Problem> {
    vec![Problem { path: "rpcServer.ratelimits".to_owned(), message: error.to_string() }]
}

impl Limits {
    /// Puts limits in force.
    pub fn new(checked: Checked) -> Result<Self, Vec<Problem>> {
        Ok(Self {
            methods: watch::Sender::new(checked.0),
            start: Instant::now(),
            counters: Counters::new().map_err(|error| broken(&error))?,
        })
    }

    /// Replaces the limits. A limit that does not change keeps its buckets; calls that wait for a changed one are
    /// checked again at once.
    pub fn replace(&self, checked: Checked) {
        self.methods.send_modify(|methods| {
            let mut new = checked.0;
            for (method, limit) in &mut new {
                if let Some(old) = methods.get(method).filter(|old| old.configured == limit.configured) {
                    *limit = Arc::clone(old);
                }
            }
            *methods = new;
        });
    }

    /// Counters of this instance, for the metrics registry.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a token for a call that waits at most `patience`; returns how long to wait before it may be served.
    fn admit(
        &self,
        method: &str,
        limit: &Limit,
        message: &[u8],
        patience: Duration,
    ) -> Result<Duration, Status> {
        let key = limit.key(message)?;
        let patience = if limit.configured.block { patience } else { Duration::ZERO };
        let taken = {
            let mut buckets = limit.buckets.lock();
            if limit.is_keyed() && buckets.knows(&key) {
                self.counters.hits.with_label_values(&[method]).inc();
            }
            buckets.take(key, self.start.elapsed(), patience)
        };
        let is_limited = if taken == Ok(Duration::ZERO) { "false" } else { "true" };
        self.counters.calls.with_label_values(&[method, is_limited]).inc();
        let count = |outcome| self.counters.counted.with_label_values(&[method, outcome]).inc();
        match taken {
            Ok(Duration::ZERO) => Ok(Duration::ZERO),
            Ok(wait) => {
                count("waited");
                Ok(wait)
            }
            Err(wait) => {
                count("refused");
                let mut details = ErrorDetails::new();
                details.set_retry_info(Some(wait));
                Err(Status::with_error_details(Code::ResourceExhausted, "too many requests", details))
            }
        }
    }

    /// The limit of a method.
    fn of(&self, method: &str) -> Option<Arc<Limit>> {
        self.methods.borrow().get(method).cloned()
    }

    /// Returns once the method has another limit.
    async fn replaced(&self, method: &str, limit: &Arc<Limit>) {
        let mut methods = self.methods.subscribe();
        let is_other = |methods: &HashMap<String, Arc<Limit>>| {
            methods.get(method).is_none_or(|now| !Arc::ptr_eq(now, limit))
        };
        // `self` holds the sender, so it is not dropped.
        let _ = methods.wait_for(is_other).await;
    }
}

impl Limit {
    /// `None` for what is not limited: streams, and methods that are not served.
    fn new(files: &FileDescriptorSet, method: &str, limit: &RateLimit) -> Result<Option<Self>, String> {
        let Some(found) = fields::method(files, method) else {
            tracing::warn!(method, "a rate limit names an unknown method");
            return Ok(None);
        };
        if found.client_streaming() || found.server_streaming() {
            tracing::warn!(method, "a rate limit names a streaming method; streams are not limited");
            return Ok(None);
        }
        let (paths, most) = match &limit.keyed {
            None => (&[][..], 1),
            Some(keyed) => (&keyed.fields[..], keyed.buckets.get()),
        };
        let keys = paths.iter().map(|names| FieldPath::find(files, found.input_type(), names));
        let rate = Rate { size: limit.bucket_size, refill: limit.refill_interval };
        Ok(Some(Self {
            configured: limit.clone(),
            keys: keys.collect::<Result<_, _>>()?,
            buckets: Mutex::new(Buckets::new(rate, most)),
        }))
    }

    /// Whether the limit needs fields of the request.
    fn is_keyed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Returns the token of [`Limits::admit`] for a call that is not made.
    fn give_back(&self, message: &[u8]) {
        if let Ok(key) = self.key(message) {
            self.buckets.lock().give_back(&key);
        }
    }

    fn key(&self, message: &[u8]) -> Result<Key, Status> {
        let mut context = digest::Context::new(&digest::SHA256);
        for path in &self.keys {
            let value = path.value(message);
            let value = value.ok_or_else(|| Status::invalid_argument("the request cannot be decoded"))?;
            context.update(&value.len().to_be_bytes());
            context.update(&value);
        }
        let mut key = Key::default();
        key.copy_from_slice(context.finish().as_ref());
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use proto::wsman::StopWorkspaceRequest;
    use runtime::config::KeyedLimit;

    const STOP: &str = "/wsman.WorkspaceManager/StopWorkspace";

    const REFILL: Duration = Duration::from_secs(30);

    fn limit(block: bool, refill_interval: Duration, key: Option<&str>) -> RateLimit {
        let keyed =
            key.map(|key| KeyedLimit { fields: vec![vec![key.to_owned()]], buckets: NonZeroUsize::MIN });
        RateLimit { block, bucket_size: 1, refill_interval, keyed }
    }

    fn checked(method: &str, limit: RateLimit) -> Result<Checked, Vec<Problem>> {
        Checked::new(&BTreeMap::from([(method.to_owned(), limit)]))
    }

    fn limits(method: &str, block: bool, key: Option<&str>) -> Result<Limits, Vec<Problem>> {
        Limits::new(checked(method, limit(block, REFILL, key))?)
    }

    impl Limits {
        fn ask(&self, message: &[u8], deadline: Duration) -> Result<Duration, Status> {
            self.admit(STOP, &self.of(STOP).unwrap(), message, deadline)
        }
    }

    fn stop(id: &str) -> Vec<u8> {
        StopWorkspaceRequest { id: id.to_owned(), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn calls_over_a_limit_get_a_retry_delay_and_are_counted() {
        let limits = limits(STOP, false, None).unwrap();
        assert_eq!(limits.ask(b"", PATIENCE).unwrap(), Duration::ZERO);
        let status = limits.ask(b"", PATIENCE).unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too many requests"));
        let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(retry > Duration::from_secs(28) && retry <= Duration::from_secs(30), "{retry:?}");
        assert_eq!(limits.counters.counted.with_label_values(&[STOP, "refused"]).get(), 1);
        let calls = |limited| limits.counters.calls.with_label_values(&[STOP, limited]).get();
        assert_eq!((calls("false"), calls("true")), (1, 1));
        assert!(limits.of("/wsman.WorkspaceManager/MarkActive").is_none());
    }

    #[test]
    fn a_blocking_limit_waits_unless_the_caller_would_not() {
        let limits = limits(STOP, true, None).unwrap();
        assert_eq!(limits.ask(b"", PATIENCE).unwrap(), Duration::ZERO);
        let refused = limits.ask(b"", Duration::from_secs(1)).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(limits.ask(b"", PATIENCE).unwrap() > Duration::from_secs(28));
    }

    #[test]
    fn values_of_a_key_are_limited_apart() {
        let limits = limits(STOP, false, Some("id")).unwrap();
        assert!(limits.ask(&stop("a"), PATIENCE).is_ok());
        assert!(limits.ask(&stop("a"), PATIENCE).is_err());
        assert_eq!(limits.counters.hits.with_label_values(&[STOP]).get(), 1);
        assert!(limits.ask(&stop("b"), PATIENCE).is_ok());
        assert_eq!(limits.counters.hits.with_label_values(&[STOP]).get(), 1);
        assert_eq!(limits.ask(&[0xff], PATIENCE).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn an_unknown_field_is_a_problem_and_streams_are_not_limited() {
        let problems = limits(STOP, false, Some("owner")).unwrap_err();
        assert_eq!(problems[0].path, format!("rpcServer.ratelimits.{STOP}.key"));
        assert_eq!(problems[0].message, "owner is no field of StopWorkspaceRequest");
        let subscribe = "/wsman.WorkspaceManager/Subscribe";
        assert!(limits(subscribe, false, None).unwrap().of(subscribe).is_none());
    }
    #[test]
    fn a_limit_that_stays_as_it_is_keeps_what_it_counted() {
        let limits = limits(STOP, false, None).unwrap();
        assert!(limits.ask(b"", PATIENCE).is_ok());
        limits.replace(checked(STOP, limit(false, REFILL, None)).unwrap());
        assert!(limits.ask(b"", PATIENCE).is_err());
        limits.replace(checked(STOP, limit(false, REFILL * 2, None)).unwrap());
        assert!(limits.ask(b"", PATIENCE).is_ok());
    }
}
