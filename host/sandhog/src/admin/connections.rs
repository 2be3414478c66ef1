//! The open connections, and the choice of the one that has to go when there is no room for another.
//!
//! Invariant: there are never more connections than the limit, and a connection with a request under way is never ended for
//! another. Knows nothing of HTTP.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The state of a connection, named by what it waits for. The first to go come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConnectionPhase {
    /// For the head of a request, of which a part may be there.
    Silent,
    /// For the client to take an answer.
    Answering,
    /// For the client to send a body.
    Sending,
    /// For this host.
    UnderWay,
}

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    /// The connection came when there was room for probes only.
    pub(crate) for_probes: bool,
    phase: Mutex<(ConnectionPhase, Instant)>,
    ended: CancellationToken,
}

impl ClientConnection {
    fn new(for_probes: bool) -> Self {
        Self {
            for_probes,
            phase: Mutex::new((ConnectionPhase::Silent, Instant::now())),
            ended: CancellationToken::new(),
        }
    }

    /// Notes the phase that begins now.
    pub(crate) fn turn(&self, phase: ConnectionPhase) {
        *self.standing() = (phase, Instant::now());
    }

    /// Notes that all written bytes have left: after an answer the next request may come.
    pub(crate) fn flushed(&self) {
        let mut standing = self.standing();
        if standing.0 == ConnectionPhase::Answering {
            *standing = (ConnectionPhase::Silent, Instant::now());
        }
    }

    pub(crate) fn phase(&self) -> ConnectionPhase {
        self.standing().0
    }

    /// Waits until the connection has to go.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn standing(&self) -> MutexGuard<'_, (ConnectionPhase, Instant)> {
        self.phase.lock()
    }
}

/// The open connections.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    most: usize,
    reserve: usize,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    connections: BTreeMap<u64, Arc<ClientConnection>>,
}

/// The answer to a new connection.
#[derive(Debug)]
pub(crate) enum ConnectionAdmission {
    /// There is room.
    Room(ConnectionPlace),
    /// There is room, because another connection was ended.
    Replaced(ConnectionPlace),
    /// Every connection has a request under way.
    Full,
}

impl ConnectionTable {
    /// Allows `most` connections, the last `reserve` of which are for probes while the others have requests under way.
    pub(crate) fn new(most: usize, reserve: usize) -> Self {
        Self {
            most,
            reserve,
            open: Mutex::default(),
        }
    }

    /// Admits a connection, if need be in place of another.
    pub(crate) fn admit(self: &Arc<Self>) -> ConnectionAdmission {
        let mut open = self.open();
        let ordinary = self.most.saturating_sub(self.reserve);
        if open.count(false) < ordinary {
            return ConnectionAdmission::Room(self.place(&mut open, false));
        }
        if open.end_one(false) {
            return ConnectionAdmission::Replaced(self.place(&mut open, false));
        }
        if open.connections.len() < self.most {
            return ConnectionAdmission::Room(self.place(&mut open, true));
        }
        if open.end_one(true) {
            return ConnectionAdmission::Replaced(self.place(&mut open, true));
        }
        ConnectionAdmission::Full
    }

    /// Ends a connection that waits for its client. Returns whether there was one.
    pub(crate) fn end_one(&self) -> bool {
        let mut open = self.open();
        open.end_one(false) || open.end_one(true)
    }

    fn place(self: &Arc<Self>, open: &mut OpenConnections, for_probes: bool) -> ConnectionPlace {
        let connection = Arc::new(ClientConnection::new(for_probes));
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Arc::clone(&connection));
        ConnectionPlace {
            connections: Arc::clone(self),
            connection,
            id,
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock()
    }
}

impl OpenConnections {
    fn count(&self, for_probes: bool) -> usize {
        let same = |connection: &&Arc<ClientConnection>| connection.for_probes == for_probes;
        self.connections.values().filter(same).count()
    }

    /// Ends the connection in the earliest phase that has waited for its client for longest.
    fn end_one(&mut self, for_probes: bool) -> bool {
        let candidates = self.connections.iter().filter_map(|(id, connection)| {
            let standing = *connection.standing();
            (connection.for_probes == for_probes && standing.0 != ConnectionPhase::UnderWay).then_some((standing, *id))
        });
        let Some((_, id)) = candidates.min() else { return false };
        if let Some(connection) = self.connections.remove(&id) {
            connection.ended.cancel();
        }
        true
    }
}

/// The right to one connection. Dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct ConnectionPlace {
    connections: Arc<ConnectionTable>,
    pub(crate) connection: Arc<ClientConnection>,
    id: u64,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        drop(self.connections.open().connections.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(connections: &Arc<ConnectionTable>) -> ConnectionPlace {
        let admission = connections.admit();
        let ConnectionAdmission::Room(place) = admission else {
            panic!("{admission:?}")
        };
        place
    }

    fn replaced(connections: &Arc<ConnectionTable>) -> ConnectionPlace {
        let admission = connections.admit();
        let ConnectionAdmission::Replaced(place) = admission else {
            panic!("{admission:?}")
        };
        place
    }

    fn is_ended(place: &ConnectionPlace) -> bool {
        place.connection.ended.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_silent_for_longest_goes_first() {
        let connections = Arc::new(ConnectionTable::new(3, 0));
        let places = [(); 3].map(|()| room(&connections));
        for (place, phase) in places.iter().zip([
            ConnectionPhase::Sending,
            ConnectionPhase::Silent,
            ConnectionPhase::Silent,
        ]) {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            place.connection.turn(phase);
        }
        let next = replaced(&connections);
        assert_eq!(places.each_ref().map(is_ended), [false, true, false]);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        next.connection.turn(ConnectionPhase::UnderWay);
        let (_a, _b) = (replaced(&connections), replaced(&connections));
        assert!(!is_ended(&next) && is_ended(&places[2]));
    }

    #[tokio::test]
    async fn a_probe_has_room_while_every_request_is_under_way() {
        let connections = Arc::new(ConnectionTable::new(4, 2));
        let places = [(); 2].map(|()| room(&connections));
        for place in &places {
            assert!(!place.connection.for_probes);
            place.connection.turn(ConnectionPhase::UnderWay);
        }
        let probes = [(); 2].map(|()| room(&connections));
        assert!(probes.iter().all(|place| place.connection.for_probes));
        assert!(replaced(&connections).connection.for_probes);
        assert!(!places.iter().any(is_ended) && probes.iter().any(is_ended));
        drop(places);
        assert!(!room(&connections).connection.for_probes, "there is room again");
    }

    #[tokio::test]
    async fn nobody_is_ended_for_another_whose_request_is_under_way() {
        let connections = Arc::new(ConnectionTable::new(2, 1));
        let places = [(); 2].map(|()| {
            let place = room(&connections);
            place.connection.turn(ConnectionPhase::UnderWay);
            place
        });
        assert!(matches!(connections.admit(), ConnectionAdmission::Full));
        assert!(!connections.end_one());
        // A flush in the middle of a request is no end of it.
        places[0].connection.flushed();
        assert_eq!(places[0].connection.phase(), ConnectionPhase::UnderWay);
    }
}
