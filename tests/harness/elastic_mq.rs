//! `ElasticMQ`, an SQS server in Scala that people use on their machines. It needs a JDK and Maven, so only a benchmark starts it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use crate::{toolchains::maven_libraries, wait_for};

/// A server with its defaults: everything is in memory. It ends when this is dropped.
#[derive(Debug)]
pub struct ElasticMq {
    child: Child,
    pub address: SocketAddr,
}

impl ElasticMq {
    /// Starts it on a free port; `None` where there is no Java or no Maven.
    pub fn start() -> Option<Self> {
        let is_there = |program: &str| {
            let mut command = Command::new(program);
            command.arg("-version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !is_there("java") || !is_there("mvn") {
            return None;
        }
        let libraries = maven_libraries("elasticmq");
        // The server takes no listener of ours, so another process may be quicker.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("java")
            .arg(format!("-Drest-sqs.bind-port={}", address.port()))
            .args([
                "-Drest-sqs.bind-hostname=127.0.0.1",
                "-Drest-stats.enabled=false",
                "-cp",
            ])
            .arg(libraries.join("*"))
            .arg("org.elasticmq.server.Main")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        wait_for("ElasticMQ to listen", || TcpStream::connect(address).ok());
        Some(server)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ElasticMq {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
