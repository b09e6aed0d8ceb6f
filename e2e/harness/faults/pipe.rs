//! One connection through the proxy.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Caller, Fault, Plan, Shared, Way};

/// Bytes of one chunk.
const PIECE: usize = 16 * 1024;

/// Serves a connection until it ends or must be reset.
pub(super) async fn serve(shared: &Shared, mut client: TcpStream) {
    let _ = client.set_nodelay(true);
    let plan = shared.plan.subscribe();
    let Ok(peer) = client.peer_addr() else { return };
    let mut caller = Caller::of(peer, shared.here);
    caller.resets = plan.borrow().resets(&caller);
    let caller = &caller;
    let ended = {
        let broken = broken(plan.clone(), caller);
        tokio::select! {
            outcome = relay(shared, &mut client, plan, caller) => outcome.is_ok(),
            () = broken => false,
        }
    };
    if !ended {
        let _ = client.set_zero_linger();
    }
}

/// Returns when the connection must be reset.
async fn broken(mut plan: watch::Receiver<Plan>, caller: &Caller) {
    if plan.wait_for(|plan| plan.breaks(caller)).await.is_err() {
        // The proxy was dropped, and its connections with it.
        std::future::pending::<()>().await;
    }
}

async fn relay(
    shared: &Shared,
    client: &mut TcpStream,
    mut plan: watch::Receiver<Plan>,
    caller: &Caller,
) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    plan.wait_for(|plan| plan.fault(caller) != Fault::BlackHole).await.map_err(gone)?;
    let Some(calls) = &shared.calls else {
        let server = TcpStream::connect(shared.upstream).await?;
        server.set_nodelay(true)?;
        return both(client, server, &plan, caller).await;
    };
    let (ours, theirs) = tokio::io::duplex(4 * PIECE);
    let serving = async {
        calls.serve(theirs).await;
        // Its last bytes are still on their way.
        std::future::pending::<io::Result<()>>().await
    };
    tokio::select! {
        outcome = both(client, ours, &plan, caller) => outcome,
        outcome = serving => outcome,
    }
}

/// Copies bytes in both directions until both have ended, or one has failed.
async fn both(
    client: &mut TcpStream,
    server: impl AsyncRead + AsyncWrite,
    plan: &watch::Receiver<Plan>,
    caller: &Caller,
) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = tokio::io::split(server);
    tokio::try_join!(
        pump(from_client, to_server, Way::ToServer, plan.clone(), caller),
        pump(from_server, to_client, Way::ToClient, plan.clone(), caller),
    )?;
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    mut plan: watch::Receiver<Plan>,
    caller: &Caller,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            allowed(&mut plan, caller, way, 1).await?;
            return to.shutdown().await;
        }
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            let size = allowed(&mut plan, caller, way, rest.len()).await?;
            to.write_all(&rest[..size]).await?;
            to.flush().await?;
            rest = &rest[size..];
        }
    }
}

/// Waits until bytes may pass; returns how many of `length`.
async fn allowed(
    plan: &mut watch::Receiver<Plan>,
    caller: &Caller,
    way: Way,
    length: usize,
) -> io::Result<usize> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        let fault = {
            let plan = plan.borrow_and_update();
            if plan.breaks(caller) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            plan.fault(caller)
        };
        let (wait, size) = match fault {
            Fault::None | Fault::Refuse => return Ok(length),
            Fault::Cut(cut) if cut != way => return Ok(length),
            Fault::BlackHole | Fault::Cut(_) => {
                plan.changed().await.map_err(gone)?;
                continue;
            }
            Fault::Delay { by, jitter } => (by + jitter.mul_f64(dice()), length),
            Fault::Drip { bytes, every } => (every, length.min(bytes.max(1))),
        };
        tokio::select! {
            () = sleep(wait) => return Ok(size),
            changed = plan.changed() => changed.map_err(gone)?,
        }
    }
}

/// A number from 0 to 1. Not seeded: faults that must be reproducible have no jitter.
fn dice() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128() % 1000;
    Duration::from_millis(u64::try_from(random).unwrap_or(0)).as_secs_f64()
}
