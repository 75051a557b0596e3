//! `/metrics`: what operators watch, as OpenMetrics (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! What counts is counted where it happens, by `prometheus-client`; what is so at the moment is read when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ocelli_protocol::message::{MiningStatus, NodeStatus, Traffic};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::Api;
use super::problem::{Kind, Problem};
use crate::chain::Moved;
use crate::full_message::full_message;
use crate::network::NetworkStatus;
use crate::view::{Figures, Views};

/// Bounds of what requests take, in seconds: from an answer that is remembered to one that hardly comes.
const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// What the API counts itself, and the registry of all.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    /// Those that are open.
    pub(super) connections: Gauge,
}

/// Moves of the tip, counted as they happen.
#[derive(Debug, Default, Clone)]
pub struct Moves {
    blocks: Counter,
    reorganizations: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    /// As it is in the OpenAPI document; `other` for what there is not.
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

impl Moves {
    /// Counts a move.
    pub fn count(&self, disconnected: &[Moved], connected: &[Moved]) {
        self.blocks.inc_by(connected.len() as u64);
        self.reorganizations.inc_by(u64::from(!disconnected.is_empty()));
    }
}

impl Metrics {
    pub(super) fn new(views: Arc<Views>, figures: Figures, moves: Moves) -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process));
        let registry = all.sub_registry_with_prefix("ocelli");
        let requests = Family::default();
        let seconds: Family<Route, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(SECONDS));
        let connections = Gauge::default();
        let api = registry.sub_registry_with_prefix("api");
        api.register("requests", "Requests answered over HTTP", requests.clone());
        api.register_with_unit("request_duration", "What answers over HTTP took", Unit::Seconds, seconds.clone());
        api.register("connections", "Open HTTP connections", connections.clone());
        let chain = registry.sub_registry_with_prefix("chain");
        chain.register("connected_blocks", "Blocks connected to the best chain since the start", moves.blocks.clone());
        chain.register(
            "reorganizations",
            "Moves of the tip since the start that took blocks off the best chain",
            moves.reorganizations.clone(),
        );
        figures.inference.register(registry.sub_registry_with_prefix("inference"));
        if let Some((_, rate)) = &figures.mining {
            let miner = registry.sub_registry_with_prefix("miner");
            miner.register("hashes", "Block hashes tried since the start", rate.hashes());
        }
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("network", views.parameters().name.as_str())];
        let version = Info::new(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
        registry.register("build", "The program and its network", version);
        registry.register_collector(Box::new(Moment { views, figures, stale: AtomicU64::default() }));
        Self { registry: all, requests, seconds, connections }
    }
}

/// Counts requests and what they take.
pub(super) async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    api.metrics.seconds.get_or_create(&Route { route: route.clone() }).observe(begun.elapsed().as_secs_f64());
    api.metrics.requests.get_or_create(&Answered { route, status }).inc();
    response
}

/// Tells the node's figures to Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "node", security((), ("token" = [])),
    responses(
        (status = OK, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text"),
        (status = UNAUTHORIZED, description = "Beyond its own machine the node wants its token"),
    )
)]
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    // The store is asked for its size.
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        encode(&mut text, &api.metrics.registry).map(|()| text)
    });
    let failed = || Problem::new(Kind::Node, "the figures cannot be read; the node's log says why");
    let text = text.await.map_err(|_| failed())?.map_err(|fmt::Error| failed())?;
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// What is so at the moment.
struct Moment {
    views: Arc<Views>,
    figures: Figures,
    /// The most of the miner's blocks that were stale at a time: what is told of them as a counter never falls, though a
    /// reorganisation may bring one back.
    stale: AtomicU64,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moment")
    }
}

impl Collector for Moment {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let status = self.figures.node_status(&self.views).map_err(|error| {
            tracing::error!(reason = full_message(&error), "the figures cannot be read");
            fmt::Error
        })?;
        let network = self.figures.network.status();
        let mut to = Writer(encoder);
        to.gauge("chain_height", None, "Of the tip", status.tip.height)?;
        to.gauge("chain_header_height", None, "Of the header with most work", status.sync.header_height)?;
        to.gauge("chain_tip_timestamp", Some(Unit::Seconds), "The tip's time, since 1970", status.tip.time)?;
        let refused = "Blocks that were refused as invalid, of those that are remembered";
        to.gauge("chain_invalid_blocks", None, refused, status.invalid.len() as u64)?;
        let behind = status.sync.header_height.saturating_sub(status.tip.height);
        to.gauge("sync_blocks_behind", None, "Headers that wait for their blocks", behind)?;
        to.gauge("mempool_transactions", None, "Transactions that wait for a block", status.mempool.transactions)?;
        to.gauge("mempool_size", Some(Unit::Bytes), "What they take, attachments included", status.mempool.bytes)?;
        to.gauge("inference_queue_pictures", None, "Pictures that wait for the device", status.inference.queued)?;
        let faulty = "1 if the device gave a wrong answer and is no longer used";
        to.gauge("inference_device_faulty", None, faulty, u64::from(status.device.disabled))?;
        to.network(&status, &network)?;
        if self.figures.mining.is_some() {
            let MiningStatus { found, stale, .. } = status.mining;
            to.counter("miner_found_blocks", None, "Blocks that the miner has found since the start", found)?;
            let stale = self.stale.fetch_max(stale, Ordering::Relaxed).max(stale);
            to.counter("miner_stale_blocks", None, "How many of them have come to be off the best chain", stale)?;
        }
        to.gauge("store_disk_size", Some(Unit::Bytes), "What the chain takes on disk", status.storage.disk_bytes)?;
        to.gauge(
            "store_attachments_from",
            None,
            "The lowest block of which pictures and parts of models are kept",
            status.storage.attachments_from,
        )?;
        to.gauge("store_bodies_from", None, "The lowest block of which bodies are kept", status.storage.bodies_from)?;
        to.gauge("uptime", Some(Unit::Seconds), "Since the node started", status.uptime_seconds)
    }
}

/// Writes single values, and some by a label.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, unit: Option<Unit>, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)
    }

    fn counter(&mut self, name: &str, unit: Option<Unit>, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?)
    }

    /// One value for each value of a label.
    fn by_label<const N: usize>(
        &mut self,
        (name, unit, help): (&str, Option<Unit>, &str),
        label: &str,
        values: [(&str, u64); N],
        kind: MetricType,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (value_of_label, value) in values {
            let labels = [(label, value_of_label)];
            let metric = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(metric)?,
                _ => ConstGauge::new(value).encode(metric)?,
            }
        }
        Ok(())
    }

    fn network(&mut self, status: &NodeStatus, network: &NetworkStatus) -> fmt::Result {
        let peers = ("network_peers", None, "Nodes that are connected, by who dialled");
        let counts = [("inbound", status.peers.inbound.into()), ("outbound", status.peers.dialled.into())];
        self.by_label(peers, "direction", counts, MetricType::Gauge)?;
        let purposes = |part: fn(&Traffic) -> u64| {
            let of = &status.traffic;
            [
                ("announcements", part(&of.announcements)),
                ("blocks", part(&of.blocks)),
                ("other", part(&of.other)),
                ("sync", part(&of.sync)),
                ("transactions", part(&of.transactions)),
            ]
        };
        let received = ("network_received", Some(Unit::Bytes), "From peers since the start, by what it was for");
        self.by_label(received, "purpose", purposes(|traffic| traffic.received), MetricType::Counter)?;
        let sent = ("network_sent", Some(Unit::Bytes), "To peers since the start, by what it was for");
        self.by_label(sent, "purpose", purposes(|traffic| traffic.sent), MetricType::Counter)?;
        let counters = network.counters;
        self.counter("network_failed_dials", None, "Dials since the start that gave no peer", counters.dials_failed)?;
        self.counter("network_bans", None, "Peers banned since the start", counters.bans)?;
        self.gauge("network_known_addresses", None, "Addresses that could be dialled", network.known_addresses as u64)
    }
}

/// What the system tells of the process, by the names that all Prometheus clients use.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    #[cfg(target_os = "linux")]
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        // What cannot be read is left out.
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        let mut to = Writer(encoder);
        if let Ok(stat) = process.stat() {
            let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
            let cpu = ConstCounter::new(seconds);
            let help = "Processor time used";
            cpu.encode(to.0.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?)?;
            let memory = stat.rss.saturating_mul(procfs::page_size());
            to.gauge("process_resident_memory", Some(Unit::Bytes), "Memory in use", memory)?;
            to.gauge("process_threads", None, "Threads", u64::try_from(stat.num_threads).unwrap_or(0))?;
        }
        if let Ok(open) = process.fd_count() {
            to.gauge("process_open_fds", None, "Open file descriptors", open as u64)?;
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn encode(&self, _: DescriptorEncoder) -> fmt::Result {
        Ok(())
    }
}
