//! Real processes for the tests: start, kill, stop, terminate, start again on the same directory and ports.
//!
//! Over 400 lines because nodes and coordinators are driven by the same words, a line or two each.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use granum_client::Client;

use crate::ports::free_ports;

/// Nodes of a cluster.
pub const NODES: usize = 3;
/// Coordinators of a cluster.
pub const COORDINATORS: usize = 2;
/// A debug build on a busy machine; a cluster is ready in a few seconds.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// How a cluster differs from the usual one.
#[derive(Default)]
pub struct Layout {
    /// Further arguments of every node.
    pub node_arguments: Vec<String>,
    /// Further arguments of every coordinator.
    pub coordinator_arguments: Vec<String>,
    /// Where each node's data directory is made; none: in a temporary folder.
    pub node_homes: Vec<PathBuf>,
    /// Nodes are told nothing of each other: somebody has to found the cluster.
    pub unfounded: bool,
    /// Network namespace and address of each node; none: all on loopback.
    pub node_hosts: Vec<(String, Ipv4Addr)>,
    /// Variables of each node's environment; none: what this process has.
    pub node_environment: Vec<Vec<(String, String)>>,
}

/// Three nodes and two coordinators, killed when dropped.
pub struct Cluster {
    directory: tempfile::TempDir,
    nodes: Vec<Process>,
    coordinators: Vec<Process>,
}

struct Process {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Network namespace it lives in.
    namespace: Option<String>,
    host: Ipv4Addr,
    /// Data and Raft port of a node, HTTP and gRPC port of a coordinator.
    ports: [u16; 2],
    metrics: u16,
    log: PathBuf,
    /// What it runs when it is started.
    binary: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts all processes and returns when all are ready.
    pub async fn start() -> Cluster {
        let cluster = Cluster::start_as(Layout::default());
        cluster.ready().await;
        cluster
    }

    /// Starts all processes, as laid out.
    pub fn start_as(layout: Layout) -> Cluster {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ports = free_ports(3 * (NODES + COORDINATORS));
        let trio = |at: usize| [ports[3 * at], ports[3 * at + 1], ports[3 * at + 2]];
        let host = |node: usize| layout.node_hosts.get(node).map_or(Ipv4Addr::LOCALHOST, |host| host.1);
        let addresses: Vec<String> = (0..NODES)
            .map(|node| format!("{}:{}", host(node), trio(node)[0]))
            .collect();
        let addresses = addresses.join(",");
        let nodes = (0..NODES).map(|node| {
            let home = layout.node_homes.get(node).map_or(directory.path(), PathBuf::as_path);
            let mut process = Process::node(directory.path(), home, node, host(node), trio(node));
            process.namespace = layout.node_hosts.get(node).map(|host| host.0.clone());
            process.environment = layout.node_environment.get(node).cloned().unwrap_or_default();
            if !layout.unfounded {
                process.arguments.push(format!("--bootstrap={addresses}"));
            }
            if process.namespace.is_some() {
                process.arguments.push("--insecure".to_owned());
            }
            process.arguments.extend_from_slice(&layout.node_arguments);
            process
        });
        let coordinators = (0..COORDINATORS).map(|at| {
            let mut process = Process::coordinator(directory.path(), at, trio(NODES + at), &addresses);
            process.arguments.extend_from_slice(&layout.coordinator_arguments);
            process
        });
        let mut cluster = Cluster {
            nodes: nodes.collect(),
            coordinators: coordinators.collect(),
            directory,
        };
        cluster
            .nodes
            .iter_mut()
            .chain(&mut cluster.coordinators)
            .for_each(Process::start);
        cluster
    }

    /// Returns when all processes are ready.
    pub async fn ready(&self) {
        for process in self.nodes.iter().chain(&self.coordinators) {
            process.wait_ready().await;
        }
    }

    /// Starts one more node, which joins by the addresses of the others, and returns when it is ready.
    pub async fn add_node(&mut self) {
        let ports = free_ports(3);
        let (directory, number) = (self.directory.path(), self.nodes.len());
        let mut node = Process::node(
            directory,
            directory,
            number,
            Ipv4Addr::LOCALHOST,
            [ports[0], ports[1], ports[2]],
        );
        node.arguments
            .push(format!("--join={}", self.data_addresses().join(",")));
        node.start();
        node.wait_ready().await;
        self.nodes.push(node);
    }

    /// Starts one more coordinator, which only the returned client asks.
    pub async fn add_observer(&mut self) -> Client {
        let ports = free_ports(3);
        let mut observer = Process::coordinator(
            self.directory.path(),
            self.coordinators.len(),
            [ports[0], ports[1], ports[2]],
            &self.data_addresses().join(","),
        );
        observer.start();
        observer.wait_ready().await;
        let client = client_of([observer.url()]);
        self.coordinators.push(observer);
        client
    }

    /// Where a node keeps its data, in the usual layout.
    pub fn node_directory(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("node{node}"))
    }

    /// Runs the command line, told of both coordinators.
    pub fn granum(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(words).env_clear().env("GRANUM_URL", self.urls().join(","));
        command.stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// Data addresses of all nodes.
    pub fn data_addresses(&self) -> Vec<String> {
        let address = |node: &Process| format!("{}:{}", node.host, node.ports[0]);
        self.nodes.iter().map(address).collect()
    }

    fn urls(&self) -> Vec<String> {
        self.coordinators.iter().take(COORDINATORS).map(Process::url).collect()
    }

    /// A client that knows both coordinators.
    pub fn client(&self) -> Client {
        client_of(self.urls())
    }

    /// SIGKILL.
    pub fn kill_node(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a killed node again, on its directory and ports.
    pub fn start_node(&mut self, node: usize) {
        self.nodes[node].start();
    }

    /// SIGTERM; the exit code.
    pub fn terminate_node(&mut self, node: usize) -> Option<i32> {
        self.nodes[node].terminate()
    }

    /// SIGSTOP: connections stay, and nothing is answered.
    pub fn stop_node(&mut self, node: usize) {
        self.nodes[node].signal("STOP");
    }

    /// SIGCONT: a stopped node goes on as if nothing had been.
    pub fn continue_node(&mut self, node: usize) {
        self.nodes[node].signal("CONT");
    }

    /// Whether a node was started and has not ended by itself.
    pub fn node_runs(&mut self, node: usize) -> bool {
        let child = self.nodes[node].child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Number of a running node's process.
    pub fn node_process(&self, node: usize) -> u32 {
        self.nodes[node].child.as_ref().expect("a running process").id()
    }

    /// Returns when a started node is ready.
    pub async fn node_ready(&self, node: usize) {
        self.nodes[node].wait_ready().await;
    }

    /// What a node has said so far.
    pub fn node_log(&self, node: usize) -> String {
        self.nodes[node].log()
    }

    /// Where a node keeps everything.
    pub fn node_data(&self, node: usize) -> PathBuf {
        let argument = self.nodes[node].arguments[1].strip_prefix("--data-dir=");
        argument.map(PathBuf::from).expect("the second argument of a node")
    }

    /// SIGKILL.
    pub fn kill_coordinator(&mut self, coordinator: usize) {
        self.coordinators[coordinator].kill();
    }

    /// SIGTERM; the exit code.
    pub fn terminate_coordinator(&mut self, coordinator: usize) -> Option<i32> {
        self.coordinators[coordinator].terminate()
    }

    /// How many coordinators there are, observers among them.
    pub fn coordinators(&self) -> usize {
        self.coordinators.len()
    }

    /// A node runs another build from its next start on.
    pub fn node_binary(&mut self, node: usize, binary: &Path) {
        self.nodes[node].binary = binary.to_owned();
    }

    /// A coordinator runs another build from its next start on.
    pub fn coordinator_binary(&mut self, coordinator: usize, binary: &Path) {
        self.coordinators[coordinator].binary = binary.to_owned();
    }

    /// Starts a killed coordinator again and returns when it is ready.
    pub async fn start_coordinator(&mut self, coordinator: usize) {
        self.coordinators[coordinator].start();
        self.coordinators[coordinator].wait_ready().await;
    }

    /// What a coordinator counts, the sum of all that Prometheus reads under a name, or a name and labels, that begins so.
    pub fn coordinator_metric(&self, coordinator: usize, name: &str) -> f64 {
        let process = &self.coordinators[coordinator];
        let page = get(SocketAddr::from((process.host, process.metrics)), "/metrics").expect("metrics are served");
        let values = page.lines().filter(|line| line.starts_with(name));
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// How many directories of shards all nodes have together.
    pub fn shard_directories(&self) -> usize {
        let shards = |node: usize| std::fs::read_dir(self.directory.path().join(format!("node{node}/shards")));
        (0..NODES)
            .filter_map(|node| shards(node).ok())
            .map(Iterator::count)
            .sum()
    }
}

impl Process {
    fn node(directory: &Path, home: &Path, node: usize, host: Ipv4Addr, [data, raft, metrics]: [u16; 3]) -> Process {
        let name = format!("node{node}");
        let arguments = vec![
            "node".to_owned(),
            format!("--data-dir={}", home.join(&name).display()),
            format!("--listen-data={host}:{data}"),
            format!("--listen-raft={host}:{raft}"),
            format!("--listen-metrics={host}:{metrics}"),
        ];
        Process {
            arguments,
            environment: Vec::new(),
            namespace: None,
            host,
            ports: [data, raft],
            metrics,
            log: directory.join(format!("{name}.log")),
            binary: binary(),
            child: None,
        }
    }

    fn coordinator(directory: &Path, at: usize, [http, grpc, metrics]: [u16; 3], nodes: &str) -> Process {
        let arguments = vec![
            "coordinator".to_owned(),
            format!("--nodes={nodes}"),
            format!("--listen-http=127.0.0.1:{http}"),
            format!("--listen-grpc=127.0.0.1:{grpc}"),
            format!("--listen-metrics=127.0.0.1:{metrics}"),
        ];
        let log = directory.join(format!("coordinator{at}.log"));
        Process {
            arguments,
            environment: Vec::new(),
            namespace: None,
            host: Ipv4Addr::LOCALHOST,
            ports: [http, grpc],
            metrics,
            log,
            binary: binary(),
            child: None,
        }
    }

    /// Where a coordinator serves gRPC.
    fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports[1])
    }

    fn start(&mut self) {
        assert!(self.child.is_none(), "already started");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log file");
        // nsenter becomes the binary: the child is the node itself.
        let mut command = match &self.namespace {
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    async fn wait_ready(&self) {
        let url = SocketAddr::from((self.host, self.metrics));
        let started = Instant::now();
        while !is_ready(url) {
            assert!(
                started.elapsed() < START_DEADLINE,
                "{:?} is not ready:\n{}",
                self.arguments,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("a process that was started");
        child.kill().expect("SIGKILL is delivered");
        child.wait().expect("a killed process ends");
    }

    fn signal(&self, name: &str) {
        let process = self.child.as_ref().expect("a running process").id().to_string();
        let kill = Command::new("kill").args(["-s", name, &process]).status();
        assert!(kill.expect("kill runs").success());
    }

    fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        let mut child = self.child.take().expect("a running process");
        child.wait().expect("a terminated process ends").code()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for process in self.nodes.iter_mut().chain(&mut self.coordinators) {
            if let Some(mut child) = process.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            if failed {
                let log = process.log();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                eprintln!("--- {}", process.log.display());
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

fn client_of(urls: impl IntoIterator<Item = String>) -> Client {
    let builder = urls
        .into_iter()
        .fold(Client::builder(), |builder, url| builder.url(url));
    builder.timeout(Duration::from_secs(60)).build().expect("valid URLs")
}

/// Polls `condition` until it holds.
pub async fn eventually(what: &str, deadline: Duration, condition: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("GRANUM_BIN") {
        return path.into();
    }
    built("granum").expect("the binary granum is not in the target folder: cargo build -p granum")
}

/// The build of the version to come (`.ci/build-next` makes it), if there is one.
pub fn next_binary() -> Option<PathBuf> {
    built("granum-next")
}

/// A program of the target folder.
fn built(name: &str) -> Option<PathBuf> {
    let running = std::env::current_exe().expect("a path");
    // Tests run from a folder of the target folder, programs from itself.
    let mut folders = running.ancestors().skip(1).take(2);
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.exists()))
}

/// Whether `GET /readyz` answers 200.
fn is_ready(address: SocketAddr) -> bool {
    get(address, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// What is answered to `GET`, with its head.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
