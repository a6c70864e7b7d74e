//! Who calls a server over a connection, line by line.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that anything may take: much longer than it does.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Caller(pub BufReader<TcpStream>);

impl Caller {
    pub async fn of(addr: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(addr).await.unwrap()))
    }

    pub async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap().unwrap();
        line.trim_end().to_owned()
    }

    pub async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(self.line().await);
        }
        lines
    }

    /// Everything until the server closes.
    pub async fn rest(&mut self) -> String {
        let mut rest = String::new();
        // A connection that is closed with unread input may be reset.
        let _ = timeout(PATIENCE, self.0.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}
