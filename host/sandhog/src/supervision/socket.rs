//! The socket of a service manager, for datagrams of the notify protocol of systemd (`sd_notify(3)`).
//!
//! Invariant: a manager that does not read holds nothing up for longer than [`SEND_LIMIT`].

use std::{io, os::unix::net, path::Path, time::Duration};

use tokio::{net::UnixDatagram, time::timeout};

/// The longest wait for a manager that has not read what it was told before.
const SEND_LIMIT: Duration = Duration::from_millis(500);

/// Sends assignments in one datagram, a line each.
///
/// # Errors
///
/// Nobody listens at this socket, or does not read what comes.
///
/// # Cancel safety
///
/// A future that is dropped may have sent the datagram or not.
pub(crate) async fn send(socket: &Path, assignments: &[String]) -> io::Result<()> {
    let text = assignments.join("\n");
    let connected = connect(socket)?;
    let sent = timeout(SEND_LIMIT, connected.send(text.as_bytes())).await;
    sent.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not read what it is told"))??;
    Ok(())
}

fn connect(socket: &Path) -> io::Result<UnixDatagram> {
    let address = address(socket)?;
    let datagrams = net::UnixDatagram::unbound()?;
    // Before the connection, which waits for a manager with a full queue otherwise.
    datagrams.set_nonblocking(true)?;
    datagrams.connect_addr(&address)?;
    UnixDatagram::from_std(datagrams)
}

#[cfg(target_os = "linux")]
fn address(socket: &Path) -> io::Result<net::SocketAddr> {
    use std::os::{linux::net::SocketAddrExt as _, unix::ffi::OsStrExt as _};

    match socket.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name),
        None => net::SocketAddr::from_pathname(socket),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(socket: &Path) -> io::Result<net::SocketAddr> {
    net::SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;

    use super::*;

    fn heard(manager: &net::UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let bytes = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    #[tokio::test]
    async fn a_manager_is_told_on_a_path_and_on_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = net::UnixDatagram::bind(&path).unwrap();
        send(&path, &["READY=1".to_owned(), "STATUS=x".to_owned()])
            .await
            .unwrap();
        assert_eq!(heard(&manager), "READY=1\nSTATUS=x");
        let name = format!("sandhog-test-{}", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let manager = net::UnixDatagram::bind_addr(&address).unwrap();
        send(Path::new(&format!("@{name}")), &["READY=1".to_owned()])
            .await
            .unwrap();
        assert_eq!(heard(&manager), "READY=1");
    }

    #[tokio::test]
    async fn a_manager_that_does_not_read_is_given_up_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let _manager = net::UnixDatagram::bind(&path).unwrap();
        let refused = loop {
            // The queue of a socket has room for some datagrams.
            if let Err(error) = send(&path, &["WATCHDOG=1".to_owned()]).await {
                break error;
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert!(send(&directory.path().join("nowhere"), &[]).await.is_err());
    }
}
