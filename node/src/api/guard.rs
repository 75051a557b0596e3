//! Who may ask what: by which name this machine is called, from which page, with which token, and how often.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lru::LruCache;
use ocelli_protocol::limits::{Bucket, Limit};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::connections::Client;
use super::places::Caller;
use super::problem::{Kind, Problem};
use super::v2::JSON_LENGTH;
use super::{Api, Config};
use crate::clock::Clock;

/// Requests of one address that has no token, from beyond this machine: a second, and at once.
const REQUESTS: Limit = Limit { rate: 20, burst: 200 };
/// Addresses whose requests are counted; who has not asked for longest is forgotten.
const ADDRESSES: NonZeroUsize = NonZeroUsize::new(4_096).expect("4,096 is not 0");

/// How the token is shown.
const TOKEN_HINT: &str =
    "send `Authorization: Bearer TOKEN` with what the file api-token of the node's data folder holds";

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody: it only reads what everybody may know.
    Open,
    /// Everybody of this machine, and whoever has the token: it makes work, or tells of the owner's matters.
    Local,
}

/// What is asked of every request.
pub(super) struct Guard {
    is_local: bool,
    hosts: Vec<String>,
    origins: Vec<HeaderValue>,
    /// SHA-256: digests are compared, whose length tells nothing.
    token: [u8; 32],
    clock: Clock,
    clients: Mutex<LruCache<IpAddr, Bucket>>,
}

impl Guard {
    pub(super) fn new(config: &Config, token: &str) -> Self {
        Self {
            is_local: config.is_local(),
            hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            origins: config.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect(),
            token: Sha256::digest(token).into(),
            clock: Clock::system(),
            clients: Mutex::new(LruCache::new(ADDRESSES)),
        }
    }

    /// What browsers are told: pages of the named origins may read answers, and no others.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.origins.iter().cloned()))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                HeaderName::from_static("idempotency-key"),
                HeaderName::from_static("last-event-id"),
                JSON_LENGTH,
            ])
            .expose_headers([header::CONTENT_LENGTH, JSON_LENGTH, header::RETRY_AFTER]);
        Some(cors)
    }

    /// Refuses what comes by another name than this machine's: a page whose name was made to lead here (DNS rebinding).
    fn check_host(&self, request: &Request) -> Result<(), Problem> {
        let wrong = |found: &str| {
            Problem::new(
                Kind::Origin,
                format!("the request is for the host {found:?}, expected localhost or an IP address"),
            )
            .with_hint("start the node with --api-host NAME if this machine is called so")
        };
        let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
        let host = request.uri().authority().map(Authority::as_str).or(host).unwrap_or("");
        let authority: Authority = host.parse().map_err(|_| wrong(host))?;
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let is_ip = name.parse::<IpAddr>().is_ok()
            || name
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .is_some_and(|name| name.parse::<Ipv6Addr>().is_ok());
        if is_ip || name == "localhost" || self.hosts.contains(&name) { Ok(()) } else { Err(wrong(host)) }
    }

    /// Refuses what other pages have a browser ask.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let own = |origin: &str| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            host.is_some() && authority == host
        };
        if self.origins.contains(origin) || origin.to_str().is_ok_and(own) {
            return Ok(());
        }
        Err(Problem::new(Kind::Origin, format!("pages of {origin:?} may not ask this node"))
            .with_hint("start the node with --api-origin ORIGIN to let them"))
    }

    /// Refuses what only the owner may ask, wherever the request comes from: it spends.
    pub(super) fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.has_token(headers) {
            return Ok(());
        }
        Err(Problem::new(Kind::Token, "the node spends only for who shows its token").with_hint(TOKEN_HINT))
    }

    /// Whether the owner asks, as far as can be told.
    pub(super) fn is_owner(&self, headers: &HeaderMap) -> bool {
        self.is_local || self.has_token(headers)
    }

    /// Who asks. Whoever comes by a reverse proxy of this machine looks as all who do.
    pub(super) fn caller(&self, headers: &HeaderMap, ip: Option<IpAddr>) -> Caller {
        match ip.filter(|ip| !ip.to_canonical().is_loopback()).map(subnet) {
            _ if self.has_token(headers) => Caller::Owner,
            Some(ip) => Caller::Stranger(ip),
            None => Caller::Local,
        }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let token = given.and_then(|given| {
            let (scheme, token) = given.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
        token.is_some_and(|token| Sha256::digest(token).as_slice().ct_eq(&self.token).into())
    }

    /// Whether an address that has no token asks too often; seconds after which it may again.
    fn check_rate(&self, ip: IpAddr) -> Result<(), u64> {
        let now = self.clock.now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = clients.get_or_insert_mut(subnet(ip), || Bucket::new(REQUESTS, now));
        let checked = bucket.check(1, now).map_err(|millis| millis.div_ceil(1000));
        if checked.is_ok() {
            bucket.charge(1, now);
        }
        checked
    }
}

/// What one client has many of counts once: a /64 of IPv6.
fn subnet(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// What holds for every request, whatever it asks for.
pub(super) async fn check(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let guard = &api.guard;
    if let Err(problem) = guard.check_host(&request).and_then(|()| guard.check_origin(request.headers())) {
        return problem.into_response();
    }
    next.run(request).await
}

/// What holds for the routes of one kind.
pub(super) async fn admit(State((api, access)): State<(Arc<Api>, Access)>, request: Request, next: Next) -> Response {
    let guard = &api.guard;
    if !guard.is_owner(request.headers()) {
        if access == Access::Local {
            return Problem::new(
                Kind::Token,
                "beyond its own machine the node answers this only to who shows its token",
            )
            .with_hint(TOKEN_HINT)
            .into_response();
        }
        let ip = request.extensions().get::<Client>().map(|client| client.ip);
        if let Some(Err(seconds)) = ip.map(|ip| guard.check_rate(ip)) {
            return Problem::new(
                Kind::TooMuch,
                format!(
                    "an address without a token may ask {} times a second, {} at once",
                    REQUESTS.rate, REQUESTS.burst
                ),
            )
            .with_retry_after(seconds)
            .into_response();
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_apart_by_token_and_address() {
        let config = Config::at("0.0.0.0:0".parse().unwrap());
        let guard = Guard::new(&config, "token");
        let none = HeaderMap::new();
        let own = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer token"))]);
        for (ip, caller) in [
            ("192.0.2.1", Caller::Stranger([192, 0, 2, 1].into())),
            ("::ffff:192.0.2.1", Caller::Stranger([192, 0, 2, 1].into())),
            ("2001:db8::5:6:7:8", Caller::Stranger("2001:db8::".parse().unwrap())),
            ("127.0.0.1", Caller::Local),
            ("127.8.0.1", Caller::Local),
            ("::ffff:127.0.0.1", Caller::Local),
            ("::1", Caller::Local),
        ] {
            let ip = Some(ip.parse().unwrap());
            assert_eq!((guard.caller(&none, ip), guard.caller(&own, ip)), (caller, Caller::Owner), "{ip:?}");
        }
    }
}
