//! Looks up the addresses of names, within bounds: a lookup by the system can't be cancelled, so only so many are under way, on
//! threads of their own.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::Arc,
};

use tokio::sync::Semaphore;

use crate::blocking_threads::BlockingThreads;

/// The most lookups of one handler that are under way at a time.
const MAX_LOOKUPS: usize = 8;
/// The most lookups of all handlers together. Each has a thread.
const MAX_LOOKUPS_IN_TOTAL: usize = 64;
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Finds the addresses of a host name, in the order in which they should be tried.
pub trait NameResolver: fmt::Debug + Send + Sync {
    /// Looks up a name. The executor calls this on a thread that may block, once for each connection to a name; never for an
    /// address.
    ///
    /// # Errors
    ///
    /// The name could not be looked up.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the system: its hosts file and its name servers.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl NameResolver for SystemResolver {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        // The system resolves addresses of sockets, which have a port.
        Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// A resolver that all handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Lookups {
    resolver: Arc<dyn NameResolver>,
    threads: Arc<BlockingThreads>,
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl Lookups {
    /// Makes the resolver and its threads.
    ///
    /// # Errors
    ///
    /// The machine lets no thread start.
    pub(crate) fn new(resolver: Arc<dyn NameResolver>) -> io::Result<Self> {
        Ok(Self {
            resolver,
            threads: Arc::new(BlockingThreads::new("sandhog-lookup", MAX_LOOKUPS_IN_TOTAL)?),
            all: Arc::new(Semaphore::new(MAX_LOOKUPS_IN_TOTAL)),
            own: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        })
    }

    /// Returns the same resolver with lookups of its own, so that a handler whose lookups hang does not take those of others.
    pub(crate) fn share(&self) -> Self {
        Self {
            own: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            ..self.clone()
        }
    }

    /// Looks up a name, when it is its turn.
    ///
    /// # Errors
    ///
    /// See [`NameResolver`].
    ///
    /// # Cancel safety
    ///
    /// Safe; a lookup under way ends in the background and counts until then.
    pub(crate) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let closed = |_| io::Error::other("the host is stopping");
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(closed)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(closed)?;
        let resolver = Arc::clone(&self.resolver);
        let host = host.to_owned();
        let lookup = self.threads.handle().spawn_blocking(move || {
            let _permits = (own, all);
            resolver.resolve(&host)
        });
        let mut addresses = lookup.await.map_err(io::Error::other)??;
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }
}
