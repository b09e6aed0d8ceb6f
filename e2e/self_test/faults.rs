//! The fault proxy: faults that are set have their effect, and no other.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::*;
use e2e::harness::{Answer, Fault, Proxy, Rule, Way};

/// A client without retries.
async fn impatient(kubeconfig: &Path) -> Result<kube::Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

/// An echo server, one line at a time.
async fn echo() -> Result<std::net::SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(address)
}

/// Sends a line and reads it back.
async fn call(stream: &mut TcpStream) -> std::io::Result<()> {
    let said = b"0123456789";
    stream.write_all(said).await?;
    let mut heard = [0; 10];
    stream.read_exact(&mut heard).await?;
    assert_eq!(&heard, said);
    Ok(())
}

async fn hangs(what: impl Future<Output = std::io::Result<()>>) -> bool {
    timeout(Duration::from_millis(300), what).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_connections_are_in_force_when_set_and_gone_when_healed() -> Result<()> {
    let proxy = Proxy::of(echo().await?).await?;
    let address = proxy.url("tcp").replace("tcp://", "");
    let mut stream = TcpStream::connect(&address).await?;
    call(&mut stream).await?;

    proxy.set(Fault::BlackHole).await?;
    ensure!(hangs(call(&mut stream)).await, "a black hole answered");
    let mut late = TcpStream::connect(&address).await.context("a black hole accepts")?;
    ensure!(hangs(call(&mut late)).await, "a black hole answered a new connection");
    proxy.heal().await?;
    timeout(SOON, stream.read_exact(&mut [0; 10])).await.context("what was held back is lost")??;
    timeout(SOON, late.read_exact(&mut [0; 10])).await.context("what was held back is lost")??;

    for way in [Way::ToServer, Way::ToClient] {
        proxy.set(Fault::Cut(way)).await?;
        ensure!(hangs(call(&mut stream)).await, "{way:?} is cut and it answered");
        proxy.heal().await?;
        timeout(SOON, stream.read_exact(&mut [0; 10])).await??;
    }

    let every = Duration::from_millis(20);
    proxy.set(Fault::Drip { bytes: 1, every }).await?;
    let asked = Instant::now();
    timeout(SOON, call(&mut stream)).await??;
    ensure!(asked.elapsed() >= every * 10, "ten bytes dripped in {:?}", asked.elapsed());
    let by = Duration::from_millis(50);
    proxy.set(Fault::Delay { by, jitter: by }).await?;
    let asked = Instant::now();
    timeout(SOON, call(&mut stream)).await??;
    ensure!(asked.elapsed() >= by * 2, "delayed both ways, and it took {:?}", asked.elapsed());

    proxy.set(Fault::Refuse).await?;
    let broken = timeout(SOON, call(&mut stream)).await?.err().context("a reset connection answered")?;
    let kinds = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe];
    ensure!(kinds.contains(&broken.kind()), "{broken}");
    let refused = TcpStream::connect(&address).await.err().context("connected to a closed port")?;
    ensure!(refused.kind() == std::io::ErrorKind::ConnectionRefused, "{refused}");
    proxy.heal().await?;
    let mut stream = TcpStream::connect(&address).await?;
    call(&mut stream).await?;
    proxy.reset();
    ensure!(timeout(SOON, call(&mut stream)).await?.is_err(), "a reset connection answered");
    call(&mut TcpStream::connect(&address).await?).await?;
    timeout(SOON, proxy.open().wait_for(|open| *open <= 1)).await.context("connections stay open")??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_one_process_leaves_the_others_alone() -> Result<()> {
    let proxy = Proxy::of(echo().await?).await?;
    let address = proxy.url("tcp").replace("tcp://", "");
    let mut ours = TcpStream::connect(&address).await?;
    call(&mut ours).await?;
    let mut child = tokio::process::Command::new("bash")
        .arg("-c")
        .arg(format!(
            "exec 3<>/dev/tcp/{}; while read line; do echo $line >&3; head -n1 <&3; done",
            address.replace(':', "/")
        ))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().context("it has ended")?;
    let mut say = child.stdin.take().context("no input")?;
    let mut hear = child.stdout.take().context("no output")?;
    let mut byte = [0];
    say.write_all(b"\n").await?;
    timeout(SOON, hear.read_exact(&mut byte)).await.context("the other process is not answered")??;
    proxy.set_for(pid, Fault::BlackHole);
    say.write_all(b"\n").await?;
    call(&mut ours).await?;
    ensure!(hangs(async { hear.read_exact(&mut byte).await.map(drop) }).await, "the cut process is answered");
    proxy.set_for(std::process::id(), Fault::Refuse);
    ensure!(timeout(SOON, call(&mut ours)).await?.is_err(), "our connection is not reset");
    proxy.heal().await?;
    timeout(SOON, hear.read_exact(&mut byte)).await.context("healed, and not answered")??;
    call(&mut TcpStream::connect(&address).await?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn single_calls_to_an_apiserver_are_refused_held_back_or_lose_their_answer() -> Result<()> {
    let fleet = one_cluster().await?;
    let cluster = &fleet.clusters()[0];
    let proxy = Proxy::of_cluster(cluster).await?;
    let through = proxy.kubeconfig(&cluster.kubeconfig(), &cluster.dir().join("through.kubeconfig"))?;
    let pods = Api::<Pod>::namespaced(impatient(&through).await?, "ws");
    let direct = Api::<Pod>::namespaced(cluster.client(), "ws");
    let create =
        async |name: &str| pods.create(&PostParams::default(), &pod(name, &[]).unwrap_or_default()).await;
    create("usual").await?;
    for code in [429, 500, 503] {
        proxy.rules(vec![Rule::of(http::Method::POST, "/pods", Answer::Status(code))]);
        let refused = create("refused").await.err().context("it was to be refused")?;
        ensure!(matches!(&refused, kube::Error::Api(status) if status.code == code), "{refused}");
        ensure!(pods.get_opt("usual").await?.is_some(), "reads are refused, too");
    }
    ensure!(direct.get_opt("refused").await?.is_none(), "a refused pod is there");

    proxy.rules(vec![Rule::writes(Answer::Lose)]);
    ensure!(create("lost").await.is_err(), "there was an answer");
    ensure!(direct.get_opt("lost").await?.is_some(), "it was not carried out");

    proxy.rules(vec![Rule::all(Answer::Hold)]);
    let waiting = tokio::spawn({
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &pod("held", &[]).unwrap_or_default()).await }
    });
    timeout(SOON, proxy.held().wait_for(|held| *held == 1)).await??;
    ensure!(direct.get_opt("held").await?.is_none(), "it was passed on");
    proxy.heal().await?;
    timeout(SOON, waiting).await???;
    until(&pods, "held", "running", |pod| pod["status"]["phase"] == "Running").await?;
    Ok(())
}
