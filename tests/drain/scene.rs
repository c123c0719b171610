//! A node that leaves: what it says of that, and whether it still takes connections.

use std::net::TcpStream;

use super::common::server::{Driver, Server};

/// What GET /api/drain says.
pub fn report(server: &Server) -> serde_json::Value {
    let (status, body) = server.request("GET", "/api/drain", "", "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

pub fn readiness(server: &Server) -> u16 {
    server.get("/readyz").expect("the admin listener answers").0
}

/// Whether the node takes connections.
pub fn accepts(server: &Server) -> bool {
    TcpStream::connect(server.rtmp).is_ok()
}

pub fn start(shards: usize, flags: &str) -> Server {
    Server::start(Driver::Auto, shards, &flags.split_whitespace().collect::<Vec<_>>())
}
