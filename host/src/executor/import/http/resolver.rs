//! Names to addresses, within bounds: a lookup by the system can't be cancelled, so only so many are under way, on threads
//! that nobody else needs.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::Arc,
};

use tokio::sync::Semaphore;

use crate::executor::threads::BlockingThreads;

/// Lookups of one handler that are under way at a time.
const MAX_LOOKUPS: usize = 8;
/// Lookups of all handlers together. Each has a thread.
const MAX_LOOKUPS_IN_TOTAL: usize = 64;
/// Addresses of one name that are considered.
const MAX_ADDRESSES: usize = 16;

/// Finds the addresses of a host name, in the order in which they should be tried.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Called on a thread that may block, once for each connection to a name; never for an address.
    ///
    /// # Errors
    ///
    /// The name could not be looked up.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// What the system says: its hosts file, its name servers.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        // The port is only there because the system answers with sockets' addresses.
        Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// A resolver that all handlers share.
#[derive(Debug, Clone)]
pub(in crate::executor) struct Lookups {
    resolver: Arc<dyn Resolver>,
    threads: Arc<BlockingThreads>,
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl Lookups {
    /// # Errors
    ///
    /// Their threads can't be had.
    pub(in crate::executor) fn new(resolver: Arc<dyn Resolver>) -> io::Result<Self> {
        Ok(Self {
            resolver,
            threads: Arc::new(BlockingThreads::new("sandhog-lookup", MAX_LOOKUPS_IN_TOTAL)?),
            all: Arc::new(Semaphore::new(MAX_LOOKUPS_IN_TOTAL)),
            own: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        })
    }

    /// The same resolver with a share of its own, so that a handler whose lookups hang does not take those of others.
    pub(super) fn share(&self) -> Self {
        Self {
            own: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            ..self.clone()
        }
    }

    /// Waits for its turn, then for the answer.
    ///
    /// # Cancel safety
    ///
    /// Safe; a lookup under way ends in the background and counts until then.
    pub(super) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let closed = |_| io::Error::other("the host is stopping");
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(closed)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(closed)?;
        let (resolver, host) = (Arc::clone(&self.resolver), host.to_owned());
        let lookup = self.threads.handle().spawn_blocking(move || {
            let _permits = (own, all);
            resolver.resolve(&host)
        });
        let mut addresses = lookup.await.map_err(io::Error::other)??;
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }
}
