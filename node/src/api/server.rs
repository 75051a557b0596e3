//! Connections: who is let in, how long one may do nothing, and who makes room for others.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use super::{Api, Config, Others, events, orders, token};
use crate::error::NodeError;

/// Connections at a time. The one that has asked nothing for longest makes room for a new one.
pub const MAX_CONNECTIONS: usize = 2_048;
/// How long a client may take for the head of a request, or ask nothing.
const HEAD: Duration = Duration::from_secs(15);
/// How long a client may take nothing of what it is sent.
const UNREAD: Duration = Duration::from_secs(30);
/// Bytes of a head, at most; bodies come in pieces of as many.
const HEAD_BYTES: usize = 64 << 10;
const HEAD_FIELDS: usize = 64;
/// Threads that serve; pictures are decoded on others.
const THREADS: usize = 2;
/// Threads that wait for the disk, beside as many as there are cores that decode pictures.
const READERS: usize = 4;
/// How long requests under way are waited for when the node stops.
const STOPPING: Duration = Duration::from_secs(2);

/// The API that listens. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    stop: Arc<Notify>,
    runtime: Option<Runtime>,
}

/// Who asks: put beside every request.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) ip: IpAddr,
    /// The connection, which is at work while a copy of this is held.
    pub(super) _at_work: Arc<AtWork>,
}

impl Server {
    /// Listens. The token is in the data folder.
    ///
    /// # Errors
    /// If the address cannot be had, or the token not be read or made.
    pub fn start(config: &Config, data: &Path, others: Others) -> Result<Self, NodeError> {
        let token = token::read_or_make(data)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(std::thread::available_parallelism().map_or(1, usize::from) + READERS)
            .thread_name("api")
            .enable_all()
            .build()?;
        let listen = |source| NodeError::Api { address: config.listen, source };
        let listener = runtime.block_on(TcpListener::bind(config.listen)).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stop = Arc::new(Notify::new());
        let api = Arc::new(Api::new(config, others, &token)?);
        runtime.spawn(events::watch_mempool(Arc::clone(&api.events), Arc::clone(&api.views)));
        runtime.spawn(orders::watch(Arc::clone(&api)));
        runtime.spawn(accept(listener, api, Arc::clone(&stop)));
        tracing::info!(address = %format_args!("http://{address}"), "the API listens");
        Ok(Self { address, stop, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOPPING);
        }
    }
}

async fn accept(listener: TcpListener, api: Arc<Api>, stop: Arc<Notify>) {
    let router = api.router();
    let connections = Arc::new(Connections { open: Mutex::default(), count: api.metrics.connections.clone() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.notified() => return,
        };
        match accepted {
            Ok((stream, from)) => {
                if let Some(connection) = connections.admit() {
                    tokio::spawn(serve(stream, from, router.clone(), connection));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                // Most often there are no more descriptors: others are to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, router: Router, connection: Connection) {
    // Answers are small, and somebody waits for each.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD));
    let (ip, work) = (from.ip(), Arc::clone(&connection.work));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let at_work = Arc::new(AtWork::begin(Arc::clone(&work)));
        request.extensions_mut().insert(Client { ip, _at_work: Arc::clone(&at_work) });
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            let answer = answer.await;
            drop(at_work);
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::select! {
        result = serving => if let Err(error) = result {
            tracing::debug!(%from, %error, "a connection to the API ended");
        },
        () = connection.work.make_room.notified() => tracing::debug!(%from, "an idle connection makes room for another"),
    }
}

/// All connections, the oldest first.
#[derive(Debug)]
struct Connections {
    open: Mutex<Open>,
    count: Gauge,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: BTreeMap<u64, Arc<Work>>,
}

/// What a connection does.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Requests that are being answered.
    requests: AtomicUsize,
    make_room: Notify,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct AtWork(Arc<Work>);

/// An open connection; it counts until it is dropped.
struct Connection {
    id: u64,
    work: Arc<Work>,
    connections: Arc<Connections>,
}

impl Connections {
    /// Takes a new connection; `None` where all places are taken by those that are being answered.
    fn admit(self: &Arc<Self>) -> Option<Connection> {
        let mut open = self.open();
        if open.all.len() >= MAX_CONNECTIONS {
            let idle = open.all.iter().find(|(_, work)| work.requests.load(Ordering::Relaxed) == 0);
            let (&id, _) = idle?;
            open.all.remove(&id)?.make_room.notify_one();
        }
        let (id, work) = (open.next, Arc::new(Work::default()));
        open.next += 1;
        open.all.insert(id, Arc::clone(&work));
        self.count.inc();
        Some(Connection { id, work, connections: Arc::clone(self) })
    }

    /// Locked for a few steps only, each whole in itself.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open().all.remove(&self.id);
        self.connections.count.dec();
    }
}

impl AtWork {
    fn begin(work: Arc<Work>) -> Self {
        work.requests.fetch_add(1, Ordering::Relaxed);
        Self(work)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What `--api-origin` takes: scheme and host, and a port if it is not the usual one.
///
/// # Errors
/// If the text is none.
pub fn parse_origin(text: &str) -> Result<String, io::Error> {
    let uri: axum::http::Uri = text.parse().map_err(io::Error::other)?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
    match (scheme, uri.authority()) {
        (Some(scheme), Some(authority)) if format!("{scheme}://{authority}") == text => Ok(text.to_owned()),
        _ => Err(io::Error::other(
            "expected an origin such as https://example.org or http://localhost:8000, without a path",
        )),
    }
}
