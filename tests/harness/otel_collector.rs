//! The collector of OpenTelemetry itself, built of its own modules. What it makes of a host's spans it hands on to the
//! collector that tests read ([`OtlpCollector`]).

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use crate::{
    otlp_collector::{OtlpCollector, environment},
    toolchains::{directory, go_program},
    wait_for,
};

/// A collector that runs; killed when dropped.
#[derive(Debug)]
pub struct OtelCollector {
    child: Child,
    address: SocketAddr,
}

/// The program. The first call takes some minutes.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| go_program("otel-collector", &directory().join("otel-collector")))
}

impl OtelCollector {
    /// Starts one on a free port, which hands on what it takes.
    pub fn before(reader: &OtlpCollector) -> Self {
        // It takes no listener of ours, so another process may be quicker.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let settings = format!(
            "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: \"{address}\"}}}}}}}},
              exporters: {{otlp_http: {{endpoint: \"http://127.0.0.1:{}\", compression: none}}}},
              service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}}}}}",
            reader.port()
        );
        let child = Command::new(program())
            .arg(format!("--config=yaml:{settings}"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let collector = Self { child, address };
        wait_for("the collector to listen", || TcpStream::connect(address).ok());
        collector
    }

    /// The variables of a host that exports to it without much delay.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        environment(self.address.port().into())
    }
}

impl Drop for OtelCollector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
