//! The way to the network: what all handlers share of it, and what the attempts of one handler share.

use std::{io, net::IpAddr, sync::Arc};

use tokio::sync::{OnceCell, Semaphore};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};

use super::{
    connection::ConnectionPool,
    resolver::{Lookups, NameResolver},
};
use crate::GuestPolicy;
use crate::policy::HttpGrant;

/// The network that all handlers share: the resolver, the room for idle connections, and the system's root certificates, which
/// are read when they are first needed.
pub(crate) struct Network {
    lookups: Lookups,
    idle: Arc<Semaphore>,
    roots: OnceCell<Arc<RootCertStore>>,
}

impl Network {
    /// Makes the network. All handlers together may have `idle` connections that wait for the next request.
    ///
    /// # Errors
    ///
    /// The machine lets no thread for lookups start.
    pub(crate) fn new(resolver: Arc<dyn NameResolver>, idle: u32) -> io::Result<Self> {
        Ok(Self {
            lookups: Lookups::new(resolver)?,
            idle: Arc::new(Semaphore::new(usize::try_from(idle).unwrap_or(Semaphore::MAX_PERMITS))),
            roots: OnceCell::new(),
        })
    }

    async fn roots(&self) -> io::Result<Arc<RootCertStore>> {
        let roots = self.roots.get_or_try_init(|| async {
            let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            match found.errors.into_iter().next() {
                Some(error) if roots.is_empty() => Err(io::Error::other(error)),
                _ => Ok(Arc::new(roots)),
            }
        });
        roots.await.map(Arc::clone)
    }
}

/// The network of one component under one policy, shared by its attempts. Dropping the last clone closes its connections.
pub(crate) struct Outbound {
    grant: HttpGrant,
    network: Arc<Network>,
    lookups: Lookups,
    tls: OnceCell<TlsConnector>,
    pool: Arc<ConnectionPool>,
}

impl Outbound {
    /// Returns `None` if the policy grants no HTTP.
    pub(crate) fn new(policy: &GuestPolicy, network: &Arc<Network>) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            grant: policy.grants.http.clone()?,
            network: Arc::clone(network),
            lookups: network.lookups.share(),
            tls: OnceCell::new(),
            pool: Arc::new(ConnectionPool::new(&network.idle)),
        }))
    }

    pub(crate) fn grant(&self) -> &HttpGrant {
        &self.grant
    }

    pub(crate) fn pool(&self) -> &Arc<ConnectionPool> {
        &self.pool
    }

    /// Looks up a name.
    ///
    /// # Errors
    ///
    /// See [`NameResolver`].
    ///
    /// # Cancel safety
    ///
    /// Safe; a lookup under way ends in the background and counts until then.
    pub(crate) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.resolve(host).await
    }

    /// Returns the connector for TLS. Its sessions are the handler's own: shared ones would tell a server which handlers belong
    /// together.
    ///
    /// # Errors
    ///
    /// The system's root certificates can't be read.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn tls(&self) -> io::Result<&TlsConnector> {
        let connector = self.tls.get_or_try_init(|| async {
            let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_root_certificates(self.network.roots().await?)
                .with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        });
        connector.await
    }
}
