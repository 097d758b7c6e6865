//! What operators watch. Labels hold routes and statuses, never what a caller sent.

use crate::identity::Position;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// From half a millisecond to the longest that a request may wait for its answer.
const DURATION_BUCKETS_S: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

pub struct Metrics {
    /// Requests that were recorded in one transaction.
    batch_len: Histogram,
    /// Requests that wait for the recorder, as it was when somebody looked last.
    queue_len: Gauge,
    /// Of the last event that this service has recorded.
    position: Gauge,
    identity_len_max: Gauge,
    /// 1 while it is known without reading which keys no contact holds.
    pub keys_known: Gauge,
    /// Observations of which the rules let nothing link.
    pub unlinked_observations: Counter,
    /// Events under the last checkpoint, and behind it, as the node that seals sees it.
    sealed: Gauge,
    seal_lag: Gauge,
    /// 1 while the ledger contradicts what was signed.
    pub sealing_refused: Gauge,
    /// 1 while the checkpoint directory cannot be read or written.
    pub sealing_stuck: Gauge,
    /// Reads of personal data that were not put on record.
    pub reads_lost: Counter,
    requests: Family<Answered, Counter>,
    request_duration: Family<Asked, Histogram>,
    registry: Registry,
}

/// The pattern of a route; none where no route matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route(pub Option<Cow<'static, str>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: Route,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: Route,
    method: &'static str,
    status: u16,
}

impl Metrics {
    pub fn new() -> Self {
        let histogram = || Histogram::new(DURATION_BUCKETS_S);
        let mut metrics = Self {
            batch_len: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            queue_len: Gauge::default(),
            position: Gauge::default(),
            identity_len_max: Gauge::default(),
            keys_known: Gauge::default(),
            unlinked_observations: Counter::default(),
            sealed: Gauge::default(),
            seal_lag: Gauge::default(),
            sealing_refused: Gauge::default(),
            sealing_stuck: Gauge::default(),
            reads_lost: Counter::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(histogram),
            registry: Registry::with_prefix("identity_ledger"),
        };
        metrics.register();
        metrics
    }

    /// A request was answered.
    pub fn answered(&self, route: Route, method: &'static str, status: u16, took: Duration) {
        let asked = Asked { route };
        self.request_duration.get_or_create(&asked).observe(took.as_secs_f64());
        let answered = Answered { route: asked.route, method, status };
        self.requests.get_or_create(&answered).inc();
    }

    /// A batch was recorded, up to this position. The largest identity it touched has this many
    /// contacts.
    pub fn recorded(&self, batch_len: usize, position: Position, identity_len_max: usize) {
        self.batch_len.observe(batch_len as f64);
        self.position.set(position.get());
        let len = i64::try_from(identity_len_max).unwrap_or(i64::MAX);
        self.identity_len_max.inner().fetch_max(len, Ordering::Relaxed);
    }

    /// So many events are under the last checkpoint, of a ledger that ends with this one.
    pub fn sealed(&self, size: u64, position: u64) {
        self.sealed.set(size.cast_signed());
        self.seal_lag.set(position.saturating_sub(size).cast_signed());
    }

    /// All metrics in the OpenMetrics text format, while so many requests wait for the recorder.
    pub fn text(&self, queue_len: usize) -> String {
        self.queue_len.set(i64::try_from(queue_len).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes whatever is written");
        text
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to the head of its answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register_with_unit(
            "batch",
            "Requests recorded in one transaction",
            Unit::Other("requests".into()),
            self.batch_len.clone(),
        );
        registry.register_with_unit(
            "queue",
            "Requests that wait for the recorder",
            Unit::Other("requests".into()),
            self.queue_len.clone(),
        );
        registry.register(
            "position",
            "Position of the last event that this node has recorded since its start",
            self.position.clone(),
        );
        registry.register_with_unit(
            "largest_identity",
            "Contacts of the largest identity that was touched since the start",
            Unit::Other("contacts".into()),
            self.identity_len_max.clone(),
        );
        registry.register(
            "keys_known",
            "1 while it is known without reading which keys no contact holds: new customers cost less",
            self.keys_known.clone(),
        );
        registry.register(
            "unlinked_observations",
            "Observations of which the rules let nothing link, each a primary of its own",
            self.unlinked_observations.clone(),
        );
        registry.register_with_unit(
            "sealed",
            "Events under the last checkpoint, on the node that seals",
            Unit::Other("events".into()),
            self.sealed.clone(),
        );
        registry.register_with_unit(
            "seal_lag",
            "Events after the last checkpoint, on the node that seals",
            Unit::Other("events".into()),
            self.seal_lag.clone(),
        );
        registry.register(
            "access_reads_lost",
            "Reads of personal data that are not in the table access, for want of room or time",
            self.reads_lost.clone(),
        );
        registry.register(
            "sealing_refused",
            "1 while the ledger contradicts what was signed and nothing is sealed",
            self.sealing_refused.clone(),
        );
        registry.register(
            "sealing_stuck",
            "1 while the checkpoint directory cannot be read or written and nothing is sealed",
            self.sealing_stuck.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.0.as_deref().unwrap_or("none").encode(encoder)
    }
}
