//! What operators watch. Labels are routes, methods and statuses, never what a caller sent.

use crate::identity::Position;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// From half a millisecond to the longest that a request may wait for its answer.
const DURATION_BUCKETS_S: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

pub struct Metrics {
    /// Requests that were recorded in one transaction.
    batch_len: Histogram,
    /// Requests that wait for the recorder, set when the metrics are asked for.
    queue_len: Gauge,
    /// The position of the last event that this service has recorded.
    position: Gauge,
    /// Number of contacts of the largest identity that was touched.
    identity_len_max: Gauge,
    /// 1 while it is known without reading which keys no contact holds.
    pub keys_known: Gauge,
    /// Observations of which the rules let nothing link.
    pub unlinked_observations: Counter,
    /// Events under the last checkpoint, as the node that seals sees it.
    sealed: Gauge,
    /// Events after the last checkpoint.
    seal_lag: Gauge,
    /// 1 while the ledger contradicts what was signed.
    pub sealing_refused: Gauge,
    /// 1 while the checkpoint directory cannot be read or written.
    pub sealing_stuck: Gauge,
    /// Reads of personal data that were not put on record.
    pub reads_lost: Counter,
    requests: Family<Answered, Counter>,
    request_duration: Family<RouteLabel, Histogram>,
    registry: Registry,
}

/// The pattern of a route, or `None` if no route matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route(pub Option<Cow<'static, str>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: Route,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: Route,
    method: &'static str,
    status: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(DURATION_BUCKETS_S);
        let mut registry = Registry::with_prefix("identity_ledger");
        // In the order in which they are shown.
        Self {
            requests: add(
                &mut registry,
                "http_requests",
                "Requests answered",
                None,
                Family::default(),
            ),
            request_duration: add(
                &mut registry,
                "http_request_duration",
                "From the head of a request to the head of its answer",
                Some("seconds"),
                Family::new_with_constructor(histogram),
            ),
            batch_len: add(
                &mut registry,
                "batch",
                "Requests recorded in one transaction",
                Some("requests"),
                Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            ),
            queue_len: add(
                &mut registry,
                "queue",
                "Requests that wait for the recorder",
                Some("requests"),
                Gauge::default(),
            ),
            position: add(
                &mut registry,
                "position",
                "Position of the last event that this node has recorded since its start",
                None,
                Gauge::default(),
            ),
            identity_len_max: add(
                &mut registry,
                "largest_identity",
                "Contacts of the largest identity that was touched since the start",
                Some("contacts"),
                Gauge::default(),
            ),
            keys_known: add(
                &mut registry,
                "keys_known",
                "1 while it is known without reading which keys no contact holds: new customers cost less",
                None,
                Gauge::default(),
            ),
            unlinked_observations: add(
                &mut registry,
                "unlinked_observations",
                "Observations of which the rules let nothing link, each a primary of its own",
                None,
                Counter::default(),
            ),
            sealed: add(
                &mut registry,
                "sealed",
                "Events under the last checkpoint, on the node that seals",
                Some("events"),
                Gauge::default(),
            ),
            seal_lag: add(
                &mut registry,
                "seal_lag",
                "Events after the last checkpoint, on the node that seals",
                Some("events"),
                Gauge::default(),
            ),
            reads_lost: add(
                &mut registry,
                "access_reads_lost",
                "Reads of personal data that are not in the table access, for want of room or time",
                None,
                Counter::default(),
            ),
            sealing_refused: add(
                &mut registry,
                "sealing_refused",
                "1 while the ledger contradicts what was signed and nothing is sealed",
                None,
                Gauge::default(),
            ),
            sealing_stuck: add(
                &mut registry,
                "sealing_stuck",
                "1 while the checkpoint directory cannot be read or written and nothing is sealed",
                None,
                Gauge::default(),
            ),
            registry,
        }
    }
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn answered(&self, route: Route, method: &'static str, status: u16, took: Duration) {
        let label = RouteLabel { route };
        self.request_duration.get_or_create(&label).observe(took.as_secs_f64());
        let answered = Answered { route: label.route, method, status };
        self.requests.get_or_create(&answered).inc();
    }

    /// Counts a batch that was recorded, up to this position. `identity_len_max` is the number of
    /// contacts of the largest identity that it touched.
    pub fn recorded(&self, batch_len: usize, position: Position, identity_len_max: usize) {
        self.batch_len.observe(batch_len as f64);
        self.position.set(position.get());
        let len = i64::try_from(identity_len_max).unwrap_or(i64::MAX);
        self.identity_len_max.inner().fetch_max(len, Ordering::Relaxed);
    }

    /// Notes that a checkpoint covers `size` events of the `events_len` in the ledger.
    pub fn sealed(&self, size: u64, events_len: u64) {
        self.sealed.set(size.cast_signed());
        self.seal_lag.set(events_len.saturating_sub(size).cast_signed());
    }

    /// All metrics in the OpenMetrics text format. `queue_len` requests wait for the recorder now.
    pub fn text(&self, queue_len: usize) -> String {
        self.queue_len.set(i64::try_from(queue_len).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes whatever is written");
        text
    }
}

/// Registers a metric, which is shown from here on, and returns it.
fn add<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<&str>,
    metric: M,
) -> M {
    match unit {
        Some(unit) => {
            registry.register_with_unit(name, help, Unit::Other(unit.into()), metric.clone());
        }
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.0.as_deref().unwrap_or("none").encode(encoder)
    }
}
