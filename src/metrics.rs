//! What operators watch. Labels are routes, methods and statuses, never what a caller sent.

use crate::identity::Position;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
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
    /// Events under the last checkpoint, as a node with a key saw it last.
    sealed: Gauge,
    /// Events after the last checkpoint, set when the metrics are asked for.
    seal_lag: Gauge,
    /// What a node with a key saw last. It may not have reached Postgres since.
    seen: Mutex<Option<Seen>>,
    /// 1 while the ledger contradicts what was signed.
    pub sealing_refused: Gauge,
    /// 1 while the checkpoint directory cannot be read or written, or the role lacks a right.
    pub sealing_stuck: Gauge,
    /// Reads of personal data that were not put on record.
    pub reads_lost: Counter,
    requests: Family<Answered, Counter>,
    request_duration: Family<RouteLabel, Histogram>,
    registry: Registry,
}

/// A ledger and its last checkpoint, at one moment.
struct Seen {
    position: Position,
    /// Events after the checkpoint.
    lag: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: Cow<'static, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: Cow<'static, str>,
    method: &'static str,
    status: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(DURATION_BUCKETS_S);
        let mut shown = Shown(Registry::with_prefix("identity_ledger"));
        Self {
            requests: shown.plain("http_requests", "Requests answered"),
            request_duration: shown.in_unit(
                "http_request_duration",
                "From the head of a request to the head of its answer",
                "seconds",
                Family::new_with_constructor(histogram),
            ),
            batch_len: shown.in_unit(
                "batch",
                "Requests recorded in one transaction",
                "requests",
                Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            ),
            queue_len: shown.in_unit(
                "queue",
                "Requests that wait for the recorder",
                "requests",
                Gauge::default(),
            ),
            position: shown.plain(
                "position",
                "Position of the last event that this node has recorded since its start",
            ),
            identity_len_max: shown.in_unit(
                "largest_identity",
                "Contacts of the largest identity that was touched since the start",
                "contacts",
                Gauge::default(),
            ),
            keys_known: shown.plain(
                "keys_known",
                "1 while it is known without reading which keys no contact holds: new customers \
                 cost less",
            ),
            unlinked_observations: shown.plain(
                "unlinked_observations",
                "Observations of which the rules let nothing link, each a primary of its own",
            ),
            sealed: shown.in_unit(
                "sealed",
                "Events under the last checkpoint",
                "events",
                Gauge::default(),
            ),
            seal_lag: shown.in_unit(
                "seal_lag",
                "Events after the last checkpoint",
                "events",
                Gauge::default(),
            ),
            seen: Mutex::new(None),
            reads_lost: shown.plain(
                "access_reads_lost",
                "Reads of personal data that are not in the table access, for want of room or time",
            ),
            sealing_refused: shown.plain(
                "sealing_refused",
                "1 while the ledger contradicts what was signed and nothing is sealed",
            ),
            sealing_stuck: shown.plain(
                "sealing_stuck",
                "1 while nothing is sealed since the checkpoint directory cannot be read or written, \
                 or the role lacks a right",
            ),
            registry: shown.0,
        }
    }
}

impl Metrics {
    /// Counts a request that was answered. `route` is the pattern that it matched, if any.
    pub fn answered(
        &self,
        route: Option<Cow<'static, str>>,
        method: &'static str,
        status: u16,
        took: Duration,
    ) {
        let label = RouteLabel { route: route.unwrap_or("none".into()) };
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

    /// Notes that a checkpoint covers `size` events of the `events_len` in the ledger, whose last one is at
    /// this position.
    pub fn sealed(&self, size: u64, events_len: u64, position: Position) {
        self.sealed.set(size.cast_signed());
        let lag = events_len.saturating_sub(size).cast_signed();
        *self.seen.lock() = Some(Seen { position, lag });
    }

    /// The events after the last checkpoint that is known of. What this node has recorded since counts: the
    /// sealer may not have reached Postgres.
    fn seal_lag(&self) -> i64 {
        let seen = self.seen.lock();
        let lag = |seen: &Seen| seen.lag + (self.position.get() - seen.position.get()).max(0);
        seen.as_ref().map_or(0, lag)
    }

    /// All metrics in the OpenMetrics text format. `queue_len` requests wait for the recorder now.
    pub fn text(&self, queue_len: usize) -> String {
        self.queue_len.set(i64::try_from(queue_len).unwrap_or(i64::MAX));
        self.seal_lag.set(self.seal_lag());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes whatever is written");
        text
    }
}

/// The metrics that are shown, in the order in which they were added.
struct Shown(Registry);

impl Shown {
    fn plain<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn in_unit<M: Metric + Clone>(&mut self, name: &str, help: &str, unit: &str, metric: M) -> M {
        self.0.register_with_unit(name, help, Unit::Other(unit.into()), metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::identity::Position;

    #[test]
    fn what_is_recorded_while_the_sealer_is_away_counts_as_unsealed() {
        let metrics = Metrics::default();
        let lag = || {
            let text = metrics.text(0);
            let line =
                text.lines().find_map(|it| it.strip_prefix("identity_ledger_seal_lag_events "));
            line.unwrap().parse::<i64>().unwrap()
        };
        metrics.recorded(1, Position::new(7), 1);
        assert_eq!(lag(), 0, "without a key, nothing is sealed");
        // A loss has skipped 90 positions.
        metrics.sealed(5, 10, Position::new(100));
        assert_eq!(lag(), 5, "others have recorded since");
        metrics.recorded(1, Position::new(103), 1);
        assert_eq!(lag(), 8);
        metrics.sealed(13, 13, Position::new(103));
        assert_eq!(lag(), 0);
    }
}
