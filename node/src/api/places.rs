//! Places for requests that last. Those of who shows the token are apart from those of all others, and of the latter no address has
//! more than its share: a stranger takes nothing from the owner, and little from other strangers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Api;
use super::connections::Client;
use super::problem::{Kind, Problem};

/// Into how many shares the places of those without the token are cut: one address has one.
const SHARES: usize = 32;

/// Who asks, where there is not enough for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Shows the token.
    Owner,
    /// Does not, and comes from there.
    Stranger(IpAddr),
    /// Does not, and comes from this machine: a program, or a reverse proxy with anybody behind it.
    Local,
}

/// Places of one kind: as many for the owner as for all others.
pub(super) struct Places {
    /// What those do who have one, such as "clients listen to events".
    what: &'static str,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_owner: usize,
    by_others: usize,
    /// Of these, by address; none is 0.
    by_stranger: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    caller: Caller,
}

impl Places {
    pub(super) fn new(what: &'static str, each: usize) -> Arc<Self> {
        Arc::new(Self { what, each, taken: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Self>, caller: Caller) -> Result<Place, Problem> {
        let Self { what, each, .. } = **self;
        let mut taken = self.taken();
        let count = if caller == Caller::Owner { &mut taken.by_owner } else { &mut taken.by_others };
        if *count >= each {
            return Err(Problem::busy(format!("{each} {what} already")));
        }
        *count += 1;
        let place = Place { places: Arc::clone(self), caller };
        if let Caller::Stranger(address) = caller {
            let (count, share) = (taken.by_stranger.entry(address).or_default(), each / SHARES);
            *count += 1;
            if *count > share {
                drop(taken);
                let detail =
                    format!("{share} {what} from this address already, as many as one may have without a token");
                return Err(Problem::new(Kind::TooMuch, detail).with_retry_after(1));
            }
        }
        Ok(place)
    }

    /// Locked for a few steps only, each whole in itself.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if self.caller == Caller::Owner {
            taken.by_owner -= 1;
            return;
        }
        taken.by_others -= 1;
        if let Caller::Stranger(address) = self.caller
            && let Some(count) = taken.by_stranger.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_stranger.remove(&address);
            }
        }
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Infallible> {
        let ip = parts.extensions.get::<Client>().map(|client| client.ip);
        Ok(api.guard.caller(&parts.headers, ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_takes_the_places_of_others() {
        let places = Places::new("wait", 64);
        let stranger = |last| Caller::Stranger([192, 0, 2, last].into());
        let refused = |caller| places.take(caller).err().map(|problem| (problem.kind(), problem.detail().to_owned()));
        // A share of an address is 2.
        let first: Vec<_> = (0..2).map(|_| places.take(stranger(1)).ok().unwrap()).collect();
        let detail = "2 wait from this address already, as many as one may have without a token".to_owned();
        for _ in 0..2 {
            assert_eq!(refused(stranger(1)), Some((Kind::TooMuch, detail.clone())));
        }
        // What looks alike has no share, and takes all that is left.
        let alike: Vec<_> = (0..62).map(|_| places.take(Caller::Local).ok().unwrap()).collect();
        for caller in [Caller::Local, stranger(2)] {
            assert_eq!(refused(caller), Some((Kind::Busy, "64 wait already".into())));
        }
        let own: Vec<_> = (0..64).map(|_| places.take(Caller::Owner).ok().unwrap()).collect();
        assert_eq!(refused(Caller::Owner), Some((Kind::Busy, "64 wait already".into())));
        drop(first);
        let [one, other] = [1, 2].map(|last| places.take(stranger(last)).ok().unwrap());
        assert_eq!(places.taken().by_stranger.len(), 2);
        drop((one, other, alike, own));
        let taken = places.taken();
        assert_eq!((taken.by_owner, taken.by_others, taken.by_stranger.len()), (0, 0, 0));
    }
}
