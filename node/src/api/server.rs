//! Listens, and serves each connection.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use super::connections::{Client, Connection, Connections};
use super::timeouts::Timeouts;
use super::{Api, Config, Others, events, orders, token};
use crate::error::NodeError;

/// Bytes of a head, at most; bodies come in pieces of as many.
pub(super) const HEAD_BYTES: usize = 64 << 10;
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
        let api = Arc::new(Api::new(config, others, &token, data)?);
        runtime.spawn(events::watch_mempool(Arc::clone(&api.events), Arc::clone(&api.views)));
        runtime.spawn(orders::watch(Arc::clone(&api)));
        runtime.spawn(accept(listener, api, config.timeouts, Arc::clone(&stop)));
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

async fn accept(listener: TcpListener, api: Arc<Api>, timeouts: Timeouts, stop: Arc<Notify>) {
    let router = api.router();
    let connections = Connections::new(api.metrics.connections.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.notified() => return,
        };
        match accepted {
            Ok((stream, from)) => {
                if let Some(connection) = connections.admit() {
                    tokio::spawn(serve(stream, from, router.clone(), timeouts, connection));
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

async fn serve(stream: TcpStream, from: SocketAddr, router: Router, timeouts: Timeouts, connection: Connection) {
    // Answers are small, and somebody waits for each.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeouts.unread));
    let (ip, work) = (from.ip(), connection.work());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client = Client::begin(ip, Arc::clone(&work));
        request.extensions_mut().insert(client.clone());
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            let answer = answer.await;
            drop(client);
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.head)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::select! {
        result = serving => if let Err(error) = result {
            tracing::debug!(%from, %error, "a connection to the API ended");
        },
        () = connection.makes_room() => tracing::debug!(%from, "a connection makes room for another"),
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
