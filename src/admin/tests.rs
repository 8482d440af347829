use super::{Admin, CONNECTIONS_MAX, Readiness, serve, serve_for};
use crate::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served_until_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin::new(Metrics::new());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, admin.clone(), async {
        let _ = stopped.await;
    }));
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    admin.set(Readiness::Ready);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    admin.set(Readiness::Draining);
    let draining = get(address, "/readyz").await;
    assert!(draining.starts_with("HTTP/1.1 503") && draining.contains("draining"));
    let metrics = get(address, "/metrics").await;
    assert!(
        metrics.contains("openmetrics-text") && metrics.contains("keyway_draining 1"),
        "{metrics}"
    );
    assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn silent_connections_cannot_hold_the_port_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Enough for the last one's answer, also on a machine that is busy.
    let time_max = std::time::Duration::from_secs(1);
    let serving = tokio::spawn(serve_for(
        time_max,
        listener,
        Admin::new(Metrics::new()),
        std::future::pending(),
    ));
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // The silent ones are closed, and then this one is heard.
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    serving.abort();
}
